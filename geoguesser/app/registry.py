"""Models that the server offers, each with the facts about its run."""

from __future__ import annotations

import itertools
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
        return web_map.make_outline(self.ensemble.region)

    @cached_property
    def cells(self) -> dict[str, Any]:
        grid = self.ensemble.grid
        return {"type": "FeatureCollection", "features": []} if grid is None else web_map.make_cells(grid)


def make_model_name(run: Path, taken: Collection[str]) -> str:
    """Makes a name that is not taken for a run from the name of its folder or checkpoint file."""
    path = run.resolve()
    stem = path.stem if path.is_file() else path.name

    # Hydra's default folders are DATE/TIME; the time does not identify a run without the date.
    if re.fullmatch(r"\d\d-\d\d-\d\d", stem):
        stem = f"{path.parent.name}_{stem}"
    base = re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip(".-") or "model"

    names = itertools.chain([base], (f"{base}-{number}" for number in itertools.count(2)))
    return next(name for name in names if name not in taken)
