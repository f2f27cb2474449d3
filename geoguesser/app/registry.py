"""Models that the server offers, each with the facts about its run."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from geoguesser.app.game_places import GamePlaces
from geoguesser.inference.ensemble import Ensemble
from geoguesser.reporting import web_map


@dataclass(frozen=True, eq=False)
class ServedModel:
    """Trained model with a name.

    Attributes:
        name: Name in addresses, made of letters, digits, dots, dashes and underscores.
        ensemble: Ensemble with one member, which computes the predictions.
        label: Label of the training data, `synthetic demo` for the demo; empty for real places.
        test: Test metrics from result.json; empty if unknown.
        game_places: Test places whose photos are available; None if there are none.
        no_game: Reason why there is no game, as a sentence; empty if there is a game.
    """

    name: str
    ensemble: Ensemble
    label: str = ""
    test: Mapping[str, Any] = field(default_factory=dict)
    game_places: GamePlaces | None = None
    no_game: str = ""

    @cached_property
    def outline(self) -> dict[str, Any]:
        """Land of the region as a GeoJSON geometry."""
        return web_map.make_outline(self.ensemble.region)

    @cached_property
    def cells(self) -> dict[str, Any]:
        """Cells as a GeoJSON FeatureCollection; empty for a model without cells."""
        grid = self.ensemble.grid
        return {"type": "FeatureCollection", "features": []} if grid is None else web_map.make_cells(grid)


def make_model_name(run: Path, taken: Collection[str]) -> str:
    """Makes a unique name for a run from the name of its folder.

    Args:
        run: Run folder or checkpoint file.
        taken: Names of the other models.
    """
    path = run.resolve()
    stem = path.stem if path.is_file() else path.name

    # Hydra's default folders are DATE/TIME; the time does not identify a run without the date.
    if re.fullmatch(r"\d\d-\d\d-\d\d", stem):
        stem = f"{path.parent.name}_{stem}"
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-") or "model"

    number, name = 2, base
    while name in taken:
        number, name = number + 1, f"{base}-{number}"
    return name
