"""Models: the trained runs that the server has, and what it says of each. The network itself is the ensemble's."""

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
    """A trained run.

    Attributes:
        name: What it is called in addresses: letters, digits, dots, dashes, underscores.
        ensemble: What answers; one member.
        label: What is to say of the data that it learnt from; empty for real places.
        test: The figures of its test split, as in result.json; empty where they are not known.
        game_places: The places of its test split whose photos are there; None for none.
        no_game: Why there is no game, as a sentence; empty where there is one.
    """

    name: str
    ensemble: Ensemble
    label: str = ""
    test: Mapping[str, Any] = field(default_factory=dict)
    game_places: GamePlaces | None = None
    no_game: str = ""

    @cached_property
    def outline(self) -> dict[str, Any]:
        """The region's land as a GeoJSON geometry."""
        return web_map.make_outline(self.ensemble.region)

    @cached_property
    def cells(self) -> dict[str, Any]:
        """The cells as a GeoJSON FeatureCollection; empty for a model without."""
        grid = self.ensemble.grid
        return {"type": "FeatureCollection", "features": []} if grid is None else web_map.make_cells(grid)


def make_model_name(run: Path, taken: Collection[str]) -> str:
    """A name for a run that no other has: that of its folder, with the day's before it where that is a time.

    Args:
        run: A run folder, or a checkpoint file.
        taken: Names of others.
    """
    folder = run.resolve()
    words = folder.stem if folder.is_file() else folder.name
    if re.fullmatch(r"\d\d-\d\d-\d\d", words):
        words = f"{folder.parent.name}_{words}"
    name = re.sub(r"[^A-Za-z0-9._-]+", "-", words).strip(".-") or "model"
    number, found = 2, name
    while found in taken:
        number, found = number + 1, f"{name}-{number}"
    return found
