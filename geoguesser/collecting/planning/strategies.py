"""Sampling strategies that choose the points at which a provider is asked; choices of the config group `strategy`.

A strategy draws points on a region's land. It sends no request and writes no file.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.collecting.planning.charts import PlaneChart, WorldChart
from geoguesser.collecting.planning.farthest_point import select_farthest_first
from geoguesser.collecting.planning.layers import Layer, read_existing_places, read_layer
from geoguesser.collecting.planning.poisson_disk import DartThrower, SamplingState, rank_within_owners
from geoguesser.errors import ConfigError, check_int, check_number
from geoguesser.geo.cells.factory import make_cells_by_count, make_cells_of_side
from geoguesser.geo.cells.square import BandCells, SquareCells
from geoguesser.geo.region import PlaneRegion, Region

MAX_PLANNED_PLACES = 10_000_000
MAX_SPACING_M = 1_000_000.0
FIRST_BLOCK_SIZE = 1024  # points


@dataclass(kw_only=True)
class Strategy(ABC):
    """Base class of the sampling strategies, whose settings the files of conf/strategy describe.

    Attributes:
        name: Name of the choice in the config group.
        layer: The layer, once `sample` has read it.
        existing_deg: (M, 2) existing places, once `sample` has read them.
    """

    name: ClassVar[str]
    spaces_darts: ClassVar[bool] = True
    spacing_m: float = 100.0
    near: str | None = None
    near_m: float = 100.0
    existing: str | None = None
    layer: Layer | None = field(default=None, init=False)
    existing_deg: FloatArray | None = field(default=None, init=False)
    _report: dict[str, Any] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        check_number("strategy.spacing_m", self.spacing_m, low=0.0, high=MAX_SPACING_M)
        for name in ("near", "existing"):
            value = getattr(self, name)
            if value is not None and not (isinstance(value, str | Path) and str(value).strip()):
                raise ConfigError.at(f"strategy.{name}", "must be the path of a file, or null", found=value)
        check_number("strategy.near_m", self.near_m, low=0.0, high=MAX_SPACING_M, open_low=True)

    def sample(self, region: Region, *, places: int, seed: int) -> FloatArray:
        """Draws the points of a plan on the land of a region: (N, 2) degrees, N from 0 to `places`.

        There are fewer points than requested if the land, the spacing or the layer has no more room. The same seed
        and inputs give the same points, and a plan for more places begins with the plan for fewer places.

        Raises ConfigError if a number is out of its range, and DataError or MissingFileError if `near` or
        `existing` cannot be used.
        """
        check_int("places", places, low=1, high=MAX_PLANNED_PLACES)
        check_int("seed", seed, low=0)
        self.layer = None if self.near is None else read_layer(self.near)
        self.existing_deg = None if self.existing is None else read_existing_places(self.existing)

        rng = np.random.default_rng(seed)
        chart = PlaneChart(region) if isinstance(region, PlaneRegion) else WorldChart(region)
        thrower = DartThrower(
            chart, rng, spacing_m=self.spacing_m if self.spaces_darts else 0.0,
            taken_deg=self.existing_deg, layer=self.layer, near_m=self.near_m,
        )  # fmt: skip

        self._report = {
            "strategy": type(self).name,
            "region": region.name,
            "asked": places,
            "made": 0,
            "spacing_m": float(self.spacing_m),
            "near": self.near,
            "near_m": float(self.near_m) if self.near else None,
            "existing": 0 if self.existing_deg is None else len(self.existing_deg),
        }
        points = self._draw(region, thrower, rng, places)
        self._report |= {"made": len(points), "short": places - len(points)}
        self._report |= {f"refused_{reason}": count for reason, count in thrower.refused.items()}
        return points

    def report(self) -> dict[str, Any]:
        """Returns statistics of the last `sample` as plain values.

        `asked`, `made` and `short` count points requested, drawn and missing. `refused_spacing` and `refused_near`
        count trials on land that were too near to another point or place, or too far from the layer.
        """
        return dict(self._report)

    @abstractmethod
    def _draw(self, region: Region, thrower: DartThrower, rng: np.random.Generator, places: int) -> FloatArray:
        """Draws (N, 2) points in degrees, and adds statistics of this strategy to `_report`."""


@dataclass(kw_only=True)
class Uniform(Strategy):
    """Points uniformly by area over the land: every square kilometre has the same chance."""

    name: ClassVar[str] = "uniform"

    def _draw(self, region: Region, thrower: DartThrower, rng: np.random.Generator, places: int) -> FloatArray:
        boxes = thrower.chart.make_boxes()
        state = SamplingState(boxes, np.zeros(len(boxes), dtype=np.int64), np.zeros(1, dtype=np.int64))
        return throw_in_blocks(thrower, state, places, rng)[0]


@dataclass(kw_only=True)
class PerCell(Strategy):
    """The same number of points in each cell of a grid. Points that do not fit into a cell go to other cells."""

    name: ClassVar[str] = "per_cell"
    size: int | None = 60
    cell_km: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.cell_km is not None:
            check_number("strategy.cell_km", self.cell_km, low=0.1, high=10_000.0)
        elif self.size is None:
            raise ConfigError("strategy.size must be given, or strategy.cell_km.")
        else:
            check_int("strategy.size", self.size, low=1, high=1_000_000)

    def _draw(self, region: Region, thrower: DartThrower, rng: np.random.Generator, places: int) -> FloatArray:
        if self.cell_km is not None:
            cells = make_cells_of_side(region, self.cell_km)
        else:
            assert self.size is not None
            cells = make_cells_by_count(region, self.size)
        assert isinstance(cells, SquareCells | BandCells)

        ids = cells.touching(region)
        state = SamplingState(cells.boxes(ids), np.arange(len(ids)), np.zeros(len(ids), dtype=np.int64))
        points, owners = throw_in_blocks(thrower, state, places, rng)

        counts = np.bincount(owners, minlength=len(ids))
        self._report |= {
            "cells": len(ids),
            "cell_km": float(cells.side_km),
            "quota": places / max(len(ids), 1),
            "min_in_cell": int(counts.min()),
            "max_in_cell": int(counts.max()),
            "cells_short": int(np.count_nonzero(counts < places // max(len(ids), 1))),
            "cells_empty": int(np.count_nonzero(counts == 0)),
        }
        return points


@dataclass(kw_only=True)
class FillGaps(Strategy):
    """Points where existing places are farthest, the largest gap first, selected from random candidates."""

    name: ClassVar[str] = "fill_gaps"
    # Candidates may be close to each other; the spacing applies to the selected ones.
    spaces_darts: ClassVar[bool] = False
    candidates: int = 200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("strategy.candidates", self.candidates, low=2, high=MAX_PLANNED_PLACES)
        if self.existing is None:
            rule = "must name a data.csv for strategy=fill_gaps"
            remedy = "Without existing places, use strategy=uniform."
            raise ConfigError.at("strategy.existing", rule, found=None, remedy=remedy)

    def _draw(self, region: Region, thrower: DartThrower, rng: np.random.Generator, places: int) -> FloatArray:
        if self.candidates < 2 * places:
            rule = f"must be at least twice places={places}"
            raise ConfigError.at("strategy.candidates", rule, found=self.candidates)
        assert self.existing_deg is not None

        boxes = thrower.chart.make_boxes()
        state = SamplingState(boxes, np.zeros(len(boxes), dtype=np.int64), np.array([self.candidates]))
        candidates = thrower.throw(state)[0]

        selected, gaps_km = np.zeros(0, dtype=np.int64), np.zeros(0)
        if len(candidates):
            selected, gaps_km = select_farthest_first(
                candidates, self.existing_deg, max_count=places, spacing_m=self.spacing_m
            )
        self._report |= {
            "candidates": len(candidates),
            "largest_gap_km": float(gaps_km[0]) if len(selected) else 0.0,
            "last_gap_km": float(gaps_km[-1]) if len(selected) else 0.0,
        }
        return candidates[selected]


def throw_in_blocks(
    thrower: DartThrower, state: SamplingState, places: int, rng: np.random.Generator
) -> tuple[FloatArray, IntArray]:
    """Throws darts in blocks of doubling size, with the same number of points for each owner that has room.

    The blocks do not depend on the number of places, so that a plan for more places begins with the plan for
    fewer. Within a block the owners alternate.

    Returns (N, 2) coordinates in degrees and (N,) owners, N up to `places`.
    """
    coords: list[FloatArray] = [np.zeros((0, 2))]
    owners: list[IntArray] = [np.zeros(0, dtype=np.int64)]
    block_size, count = max(1, FIRST_BLOCK_SIZE // max(len(state.needs), 1)), 0

    while count < places and state.has_room().any():
        state.needs = np.where(state.has_room(), block_size, 0)
        block_coords, block_owners = thrower.throw(state)

        order = interleave_owners(block_owners, rng)
        coords.append(block_coords[order])
        owners.append(block_owners[order])
        count, block_size = count + len(order), 2 * block_size
    return np.concatenate(coords)[:places], np.concatenate(owners)[:places]


def interleave_owners(owners: IntArray, rng: np.random.Generator) -> IntArray:
    """Returns (N,) an order of points in which each owner, in random order, has one before any has a second."""
    return np.lexsort((rng.random(len(owners)), rank_within_owners(owners)))
