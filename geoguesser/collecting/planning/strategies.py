"""Plans: where a provider is to be asked. Strategies are the choices of the config group `strategy`.

A strategy draws points on a region's land; it asks nobody and writes nothing. What a plan costs is
collecting/cost.py, how darts are thrown collecting/darts.py.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from geoguesser.arrays import FloatArray, IntArray
from geoguesser.collecting.planning.charts import chart_of
from geoguesser.collecting.planning.farthest_point import farthest_first
from geoguesser.collecting.planning.layers import Layer, read_existing, read_layer
from geoguesser.collecting.planning.poisson_disk import Darts, Target
from geoguesser.errors import ConfigError, check_int, check_number
from geoguesser.geo.cells.factory import make_cells_by_count, make_cells_of_side
from geoguesser.geo.cells.square import BandCells, SquareCells
from geoguesser.geo.region import Region

MAX_PLACES = 10_000_000
MAX_SPACING_M = 1_000_000.0
FIRST_BLOCK = 1024  # points


@dataclass(kw_only=True)
class Strategy(ABC):
    """How points are chosen.

    Attributes:
        name: As the choice of the config group is called.
        spacing_m: No two points, nor a point and a place that exists, are nearer to each other than this.
        near: A vector layer (roads, settlements) that points must lie near to; None for anywhere on land.
        near_m: How near.
        existing: A data.csv, or a folder that holds one, with places that exist already; None for none.
        layer: The layer, once `sample` has read it.
        existing_deg: (M, 2) the places that exist, once `sample` has read them.
    """

    name: ClassVar[str]
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
        """Draws the points of a plan.

        Args:
            region: The land.
            places: How many points; fewer where the land, the spacing or the layer does not allow so many.
            seed: The same seed and inputs give the same points.

        Returns:
            (N, 2) latitude and longitude in degrees, N from 0 to `places`. A plan for more places begins with the
            plan for fewer, all else the same.

        Raises:
            ConfigError: A number is out of its range.
            DataError, MissingFileError: `near` or `existing` cannot be used.
        """
        check_int("places", places, low=1, high=MAX_PLACES)
        check_int("seed", seed, low=0)
        self.layer = None if self.near is None else read_layer(self.near)
        self.existing_deg = None if self.existing is None else read_existing(self.existing)
        rng = np.random.default_rng(seed)
        darts = Darts(
            chart_of(region),
            rng,
            spacing_m=self._dart_spacing_m(),
            taken_deg=self.existing_deg,
            layer=self.layer,
            near_m=self.near_m,
        )
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
        points = self._draw(region, darts, rng, places)
        self._report |= {"made": len(points), "short": places - len(points)}
        self._report |= {f"refused_{reason}": count for reason, count in darts.refused.items()}
        return points

    def report(self) -> dict[str, Any]:
        """What the last `sample` came to: plain values.

        `asked`, `made` and `short` count points; `refused_spacing` and `refused_near` count trials on land that
        were too near to another point or place, or too far from the layer.
        """
        return dict(self._report)

    def _dart_spacing_m(self) -> float:
        return self.spacing_m

    @abstractmethod
    def _draw(self, region: Region, darts: Darts, rng: np.random.Generator, places: int) -> FloatArray:
        """(N, 2) the points, and what is worth a line into `_report`."""


@dataclass(kw_only=True)
class Uniform(Strategy):
    """Points evenly by area over the land: a place is as likely in each square kilometre."""

    name: ClassVar[str] = "uniform"

    def _draw(self, region: Region, darts: Darts, rng: np.random.Generator, places: int) -> FloatArray:
        boxes = darts.chart.boxes()
        target = Target(boxes, np.zeros(len(boxes), dtype=np.int64), np.zeros(1, dtype=np.int64))
        return in_blocks(darts, target, places, rng)[0]


@dataclass(kw_only=True)
class PerCell(Strategy):
    """The same number of points in each cell of a grid; what a cell has no room for is dealt to the others.

    Attributes:
        size: How many cells touch the land, as `grid.size`.
        cell_km: The side of a cell instead; it wins over size.
    """

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

    def _draw(self, region: Region, darts: Darts, rng: np.random.Generator, places: int) -> FloatArray:
        if self.cell_km is not None:
            cells = make_cells_of_side(region, self.cell_km)
        else:
            assert self.size is not None
            cells = make_cells_by_count(region, self.size)
        assert isinstance(cells, SquareCells | BandCells)
        ids = cells.touching(region)
        target = Target(cells.boxes(ids), np.arange(len(ids)), np.zeros(len(ids), dtype=np.int64))
        points, owners = in_blocks(darts, target, places, rng)
        counts = np.bincount(owners, minlength=len(ids))
        self._report |= {
            "cells": len(ids),
            "cell_km": float(cells.side_km),
            "quota": places / max(len(ids), 1),
            "least_in_cell": int(counts.min()),
            "most_in_cell": int(counts.max()),
            "cells_short": int(np.count_nonzero(counts < places // max(len(ids), 1))),
            "cells_empty": int(np.count_nonzero(counts == 0)),
        }
        return points


@dataclass(kw_only=True)
class FillGaps(Strategy):
    """Points where the places that exist are farthest, the largest gap first.

    Attributes:
        candidates: How many points on land to choose from, at least twice as many as places; more find the
            middle of a gap better.
    """

    name: ClassVar[str] = "fill_gaps"
    candidates: int = 200_000

    def __post_init__(self) -> None:
        super().__post_init__()
        check_int("strategy.candidates", self.candidates, low=2, high=MAX_PLACES)
        if self.existing is None:
            raise ConfigError.at(
                "strategy.existing",
                "must name a data.csv for strategy=fill_gaps",
                found=None,
                remedy="Without places that exist, strategy=uniform fills the land.",
            )

    def _dart_spacing_m(self) -> float:
        return 0.0

    def _draw(self, region: Region, darts: Darts, rng: np.random.Generator, places: int) -> FloatArray:
        if self.candidates < 2 * places:
            raise ConfigError.at(
                "strategy.candidates", f"must be at least twice places={places}", found=self.candidates
            )
        boxes = darts.chart.boxes()
        target = Target(boxes, np.zeros(len(boxes), dtype=np.int64), np.array([self.candidates]))
        candidates = darts.throw(target)[0]
        assert self.existing_deg is not None
        chosen, gaps_km = np.zeros(0, dtype=np.int64), np.zeros(0)
        if len(candidates):
            chosen, gaps_km = farthest_first(candidates, self.existing_deg, most=places, spacing_m=self.spacing_m)
        self._report |= {
            "candidates": len(candidates),
            "largest_gap_km": float(gaps_km[0]) if len(chosen) else 0.0,
            "last_gap_km": float(gaps_km[-1]) if len(chosen) else 0.0,
        }
        return candidates[chosen]


def in_blocks(darts: Darts, target: Target, places: int, rng: np.random.Generator) -> tuple[FloatArray, IntArray]:
    """Throws in blocks, each twice as large as the one before, the same number for each owner that has room.

    Blocks do not depend on how many places are wanted, so a plan for more begins with the plan for fewer.

    Returns:
        (N, 2) coordinates in degrees and (N,) owners, N up to `places`; within a block owners have turns.
    """
    coords: list[FloatArray] = [np.zeros((0, 2))]
    owners: list[IntArray] = [np.zeros(0, dtype=np.int64)]
    block, made = max(1, FIRST_BLOCK // max(len(target.needs), 1)), 0
    while made < places and target.open().any():
        target.needs = np.where(target.open(), block, 0)
        found, of = darts.throw(target)
        order = in_turn(of, rng)
        coords.append(found[order])
        owners.append(of[order])
        made, block = made + len(found), 2 * block
    return np.concatenate(coords)[:places], np.concatenate(owners)[:places]


def in_turn(owners: IntArray, rng: np.random.Generator) -> IntArray:
    """(N,) an order of points in which each owner has a turn, in an order by lot, before any has two."""
    order = np.argsort(owners, kind="stable")
    rank = np.empty(len(owners), dtype=np.int64)
    rank[order] = np.arange(len(owners)) - np.searchsorted(owners[order], owners[order], side="left")
    return np.lexsort((rng.random(len(owners)), rank))
