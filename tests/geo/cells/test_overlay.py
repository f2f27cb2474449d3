"""Strips and overlays by hand, and against their rasters."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.cell_boxes import check_tiling, list_ids

from geoguesser.geo.cells.overlay import SLIVER, make_band_raster, make_square_raster, overlay
from geoguesser.geo.cells.square import BandCells, SquareCells
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, to_unit

PROPERTY = settings(max_examples=40, deadline=None)


def test_edges_that_almost_meet_are_one() -> None:
    first, near = (make_square_raster(SquareCells(low, 0.0, 1000.0, 3, 1)) for low in (0.0, 0.9 * SLIVER * 1000))
    assert overlay([first, near]).count == 3
    apart = make_square_raster(SquareCells(2 * SLIVER * 1000, 0.0, 1000.0, 3, 1))
    assert overlay([first, apart]).count == 5


@PROPERTY
@given(
    side=st.floats(1e3, 1e5),
    other=st.floats(0.2, 0.95),
    shift=st.tuples(st.floats(-1, 0), st.floats(-1, 0)),
    seed=st.integers(0, 99),
)
def test_pieces_of_rasters_tile_what_both_cover(
    side: float, other: float, shift: tuple[float, float], seed: int
) -> None:
    small = side * other
    coarse = SquareCells(5e5, 4.5e6, side, 4, 3)
    count = int(np.ceil(4 / other)) + 1
    fine = SquareCells(5e5 + shift[0] * small, 4.5e6 + shift[1] * small, small, count, count)
    pieces = overlay([make_square_raster(coarse), make_square_raster(fine)])
    points = np.random.default_rng(seed).uniform((5e5, 4.5e6), (5e5 + 4 * side, 4.5e6 + 3 * side), (500, 2))
    assert check_tiling(pieces, points).sum() == pytest.approx(12 * side**2)
    assert (pieces.locate(points + 1e7) == -1).all()
    parents = pieces.parents(pieces.locate(points))
    assert parents is not None
    agree = (parents == np.stack((coarse.locate(points), fine.locate(points)), axis=-1)).all(axis=1)
    assert agree.mean() > 1 - 8 * SLIVER  # all but what lies within a sliver of an edge


@PROPERTY
@given(
    sides=st.lists(st.floats(800, 9000), min_size=2, max_size=2),
    phase=st.sampled_from([0.0, 0.25, 0.5, 2 / 3]),
    seed=st.integers(0, 99),
)
def test_pieces_of_bands_tile_the_sphere(sides: list[float], phase: float, seed: int) -> None:
    coarse, fine = (BandCells.over(None, side) for side in sides)  # type: ignore[arg-type]
    rasters = [make_band_raster(coarse), make_band_raster(fine, phase)]
    pieces = overlay(rasters)
    sides_km = pieces.sides_km(list_ids(pieces))
    assert (sides_km**2).sum() == pytest.approx(4 * np.pi * EARTH_RADIUS_KM**2)
    poles = [(90.0, 3.0), (-90.0, 3.0), (5.0, 180.0), (5.0, -180.0)]
    points = np.concatenate(
        (to_unit(from_unit(np.random.default_rng(seed).normal(size=(500, 3)))), to_unit(np.array(poles)))
    )
    check_tiling(pieces, points)
    parents = pieces.parents(pieces.locate(points))
    assert parents is not None
    assert (parents[:, 0] == coarse.locate(points)).mean() > 1 - 8 * SLIVER
    moved = rasters[1].cell[rasters[1].strips.locate(points)]
    assert (parents[:, 1] == moved).mean() > 1 - 8 * SLIVER
    whole = np.unique(pieces.parents(list_ids(pieces)), axis=0)
    assert len(whole) == pieces.count  # no two boxes are one piece


@pytest.mark.parametrize("side_km", [700, 1500, 4000])
@pytest.mark.parametrize("phase", [0.5, 1 / 3])
def test_moved_bands_are_moved_by_a_share_of_a_cell_and_keep_its_area(side_km: float, phase: float) -> None:
    cells = BandCells.over(None, side_km)  # type: ignore[arg-type]
    raster = make_band_raster(cells, phase)
    rows, still = np.degrees(np.arcsin(raster.strips.rows)), np.degrees(np.arcsin(cells.band_edges))
    np.testing.assert_allclose(rows[1:-1], still[:-1] + phase * np.diff(still))
    boxes = raster.strips.boxes(list_ids(raster.strips))
    areas = np.bincount(raster.cell, (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1]))
    middle = areas[len(areas) // 4 : -len(areas) // 4]
    np.testing.assert_allclose(middle, 720.0 / cells.count, rtol=0.1)
    # The cell over the date line is two boxes with one number.
    twice = raster.cell[raster.strips.locate(to_unit(np.array([(1.0, 179.99), (1.0, -179.99)])))]
    assert twice[0] == twice[1]
