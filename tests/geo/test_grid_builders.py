"""Properties of all grids, and rules of grids of squares: in Croatia, across the date line, in the world."""

from __future__ import annotations

import dataclasses
import io
import itertools
import re
from typing import Any, NamedTuple

import numpy as np
import pytest
import shapely
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from geoguesser.errors import ConfigError, DataError, RegionError
from geoguesser.geo.cells.base import BoxCells, to_chart
from geoguesser.geo.distance import from_unit, haversine_km, to_unit
from geoguesser.geo.grid import POINTS, Grid, GridBuilder, SquareGrid, restore_grid
from geoguesser.geo.grid_builders import KMeansGrid, OverlayGrid, PyramidGrid, QuadtreeGrid, StaggeredGrid
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.inference.checkpoint import to_plain_arrays, to_plain_tensors

PROPERTY = settings(max_examples=25, deadline=None)
MAKERS: dict[str, GridBuilder] = {
    "square": SquareGrid(size=60),
    "quadtree": QuadtreeGrid(max_places=10),
    "kmeans": KMeansGrid(size=40),
    "staggered": StaggeredGrid(size=30),
    "staggered3": StaggeredGrid(size=20, copies=3),
    "pyramid": PyramidGrid(sizes=[7, 30]),
    "pyramid3": PyramidGrid(sizes=(3, 10, 40)),
}
AT_SEA = np.array([(43.0, 15.0), (42.6, 15.4)])  # the open Adriatic
OTHERS = [name for name in MAKERS if name != "square"]
BOX_MAKERS = [name for name in MAKERS if name != "kmeans"]
LANDS = ("croatia", "fiji", "world")
BOTH = list(itertools.product(MAKERS, LANDS))


class Case(NamedTuple):
    """A grid, and what it was made from."""

    maker: str
    land: str
    builder: GridBuilder
    region: Region
    places: np.ndarray
    grid: Grid


@pytest.fixture(scope="module")
def training(regions: dict[str, Region]) -> dict[str, np.ndarray]:
    """Places on land, spread evenly and near three towns, and two at sea."""
    random = np.random.default_rng(1)
    fiji = random.uniform((-18.4, 176.8), (-15.8, 180.4), (6000, 2))
    fiji[:, 1] = (fiji[:, 1] + 180) % 360 - 180
    places = {
        "croatia": random.uniform((42.4, 13.5), (46.6, 19.4), (3000, 2)),
        "fiji": fiji,
        "world": from_unit(random.normal(size=(1500, 3))),
    }
    for name, coords in places.items():
        on_land = coords[regions[name].contains(coords)]
        near = on_land[random.integers(0, 3, 200)] + random.normal(scale=0.05, size=(200, 2))
        places[name] = np.concatenate((on_land, near[regions[name].contains(np.clip(near, -90, 180))]))
    places["croatia"] = np.concatenate((places["croatia"], AT_SEA))
    return places


@pytest.fixture(scope="module", params=BOTH, ids="-".join)
def case(request: pytest.FixtureRequest, regions: dict[str, Region], training: dict[str, np.ndarray]) -> Case:
    maker, land = request.param
    grid = MAKERS[maker].fit(regions[land], training[land])
    return Case(maker, land, MAKERS[maker], regions[land], training[land], grid)


def select_cases(*makers: str) -> pytest.MarkDecorator:
    """Restricts a test to the grids of some builders."""
    return pytest.mark.parametrize("case", list(itertools.product(makers, LANDS)), indirect=True, ids="-".join)


def anywhere(land: str, count: int = 1000) -> np.ndarray:
    random = np.random.default_rng(7)
    if land == "world":
        poles_and_date_line = [(90.0, 0.0), (-90.0, 10.0), (0.0, 180.0), (0.0, -180.0), (89.999, -180.0)]
        return np.concatenate((from_unit(random.normal(size=(count, 3))), poles_and_date_line))
    corners = {"croatia": ((40.0, 11.0), (49.0, 22.0)), "fiji": ((-23.0, 174.0), (-11.0, 180.0))}[land]
    return random.uniform(*corners, (count, 2))


def test_the_centre_of_a_class_has_the_class(case: Case) -> None:
    grid = case.grid
    np.testing.assert_array_equal(grid.assign_points(grid.cells.centres(grid.kept)), np.arange(grid.num_cells))
    assert grid.num_cells > 3


def test_training_places_lie_in_their_cells_and_no_cell_is_empty(case: Case) -> None:
    inside = case.grid.inside(case.places)
    if case.maker == "square":  # the grid that keeps no cell without land; on the sphere land is known within 6 km
        assert inside.mean() > 0.99
    else:
        assert inside.all()
    assert (np.bincount(case.grid.assign(case.places), minlength=case.grid.num_cells) > 0).all()
    assert (np.diff(case.grid.kept) > 0).all()


def test_every_point_has_a_class(case: Case) -> None:
    grid, coords = case.grid, anywhere(case.land)
    classes = grid.assign(coords)
    assert classes.min() >= 0
    assert classes.max() < grid.num_cells

    outside = ~grid.inside(coords)
    located = grid.cells.locate(grid.region.to_space(coords))
    np.testing.assert_array_equal(grid.kept[classes[~outside]], located[~outside])
    assert not np.isin(located[outside], grid.kept).any()

    centres = grid.cells.centres(grid.kept)
    away = np.linalg.norm(grid.region.to_space(coords[outside])[:, None] - centres, axis=-1)
    np.testing.assert_allclose(away[np.arange(outside.sum()), classes[outside]], away.min(axis=1), rtol=1e-9)


def test_a_grid_is_restored_from_a_checkpoint(case: Case) -> None:
    grid, file = case.grid, io.BytesIO()
    torch.save(to_plain_tensors(grid.state()), file)
    file.seek(0)
    again = restore_grid(grid.region, to_plain_arrays(torch.load(file, weights_only=True)))
    for field in ("kept", "class_points_deg", "touching", "class_sides_km", "parents", "num_outputs", "side_km"):
        np.testing.assert_array_equal(getattr(again, field), getattr(grid, field))
    assert type(again.cells) is type(grid.cells)
    assert again.cells.side_km == grid.cells.side_km

    coords = anywhere(case.land)
    np.testing.assert_array_equal(again.assign(coords), grid.assign(coords))
    np.testing.assert_array_equal(again.inside(coords), grid.inside(coords))
    assert (again.neighbours != grid.neighbours).nnz == 0


def test_outlines_enclose_their_cell(case: Case) -> None:
    grid = case.grid
    rings = grid.outlines_deg(grid.kept)
    assert len(rings) == grid.num_cells
    for number, ring in enumerate(rings):
        np.testing.assert_allclose(to_unit(ring[0]), to_unit(ring[-1]), atol=1e-9)
        centre = grid.cells.centres(grid.kept[[number]])
        # A hair inside of the outline the cell is still this one.
        inner = centre + 0.98 * (grid.region.to_space(ring) - centre)
        if isinstance(grid.region, PlaneRegion) or case.maker == "kmeans":  # straight edges, or great circles
            assert (grid.assign_points(inner) == number).all()
    assert grid.outlines_deg(grid.kept[:0]) == []


@select_cases(*BOX_MAKERS)
def test_sides_are_the_roots_of_areas(case: Case) -> None:
    grid = case.grid
    assert grid.class_sides_km.shape == (grid.num_cells,)
    assert grid.side_km == np.median(grid.class_sides_km)
    if isinstance(grid.region, PlaneRegion):
        areas_m2 = [shapely.Polygon(ring).area for ring in grid.cells.outlines(grid.kept)]
        np.testing.assert_allclose(grid.class_sides_km, np.sqrt(areas_m2) / 1000, rtol=1e-6)


@select_cases(*BOX_MAKERS)
def test_neighbours_are_the_boxes_that_touch(case: Case) -> None:
    grid = case.grid
    assert isinstance(grid.cells, BoxCells)
    boxes = grid.cells.boxes(grid.kept)
    # Brute force with whole numbers: on the sphere degrees and sines are brought to steps of a millionth.
    size = np.ptp(boxes[:, [0, 2]]), np.ptp(boxes[:, [1, 3]])
    unit = np.array((360.0, 2.0)) if grid.cells.sphere else np.array(size)
    west, south, east, north = np.round(boxes / np.tile(unit, 2) * 1e6).T
    expected = np.zeros((grid.num_cells, grid.num_cells), dtype=bool)
    turns = (-1e6, 0.0, 1e6) if grid.cells.sphere else (0.0,)
    near = (south[:, None] <= north + 2) & (south <= north[:, None] + 2)
    for turn in turns:
        expected |= (west[:, None] + turn <= east + 2) & (west <= east[:, None] + turn + 2) & near
    if grid.cells.sphere:
        for at_pole in (south <= -5e5 + 1e-9, north >= 5e5 - 1e-9):
            expected |= at_pole[:, None] & at_pole
    np.fill_diagonal(expected, False)
    assert grid.neighbours.dtype == bool
    np.testing.assert_array_equal(grid.neighbours.toarray(), expected)


def test_order_of_places_does_not_matter(case: Case) -> None:
    shuffled = np.random.default_rng(2).permutation(case.places)
    again = case.builder.fit(case.region, shuffled)
    np.testing.assert_array_equal(again.kept, case.grid.kept)
    np.testing.assert_allclose(haversine_km(again.class_points_deg, case.grid.class_points_deg), 0.0, atol=1e-6)


def test_one_place_or_a_hundred_equal_ones_make_one_class(case: Case) -> None:
    place = case.places[:1]
    for places in (place, np.repeat(place, 100, axis=0)):
        grid = case.builder.fit(case.region, places)
        assert grid.num_cells == 1
        np.testing.assert_allclose(haversine_km(grid.class_points_deg, place), 0.0, atol=1e-5)
        assert grid.neighbours.shape == (1, 1)
        assert grid.neighbours.nnz == 0
        assert 0 < grid.class_sides_km[0] < 30_000
        assert len(grid.outlines_deg(grid.kept)) == 1


@pytest.mark.parametrize("point", POINTS)
def test_class_points_are_of_the_configured_kind(case: Case, point: str) -> None:
    region, places = case.region, case.places
    grid = dataclasses.replace(case.builder, point=point).fit(region, places)
    centres = region.from_space(grid.cells.centres(grid.kept))
    if point == "centroid":
        np.testing.assert_array_equal(grid.class_points_deg, centres)
    elif point == "clipped":
        np.testing.assert_allclose(grid.class_points_deg, region.snap(centres))
    else:
        classes, points = grid.assign(places), region.to_space(places)
        means = np.stack([points[classes == k].mean(axis=0) for k in range(grid.num_cells)])
        np.testing.assert_allclose(haversine_km(grid.class_points_deg, region.from_space(means)), 0, atol=1e-6)


@pytest.mark.parametrize("maker", OTHERS)
def test_places_far_off_the_land_make_a_grid(regions: dict[str, Region], maker: str) -> None:
    rome = np.array([(41.9, 12.5), (41.8, 12.6), (45.8, 16.0)])
    grid = MAKERS[maker].fit(regions["croatia"], rome)
    assert sorted(set(grid.assign(rome).tolist())) == list(range(grid.num_cells))


@pytest.mark.parametrize("maker", MAKERS)
def test_no_training_place_is_refused(regions: dict[str, Region], maker: str) -> None:
    with pytest.raises(DataError, match=r"^The training split holds no place, so no cell can be kept\.$"):
        MAKERS[maker].fit(regions["croatia"], np.zeros((0, 2)))


@PROPERTY
@given(
    places=st.lists(st.tuples(st.floats(-90, 90), st.floats(-180, 180)), min_size=1, max_size=40),
    name=st.sampled_from(OTHERS),
)
def test_any_places_of_the_world_make_a_grid(
    regions: dict[str, Region], places: list[tuple[float, float]], name: str
) -> None:
    coords = np.array(places)
    grid = MAKERS[name].fit(regions["world"], coords)
    assert grid.inside(coords).all()
    assert (np.bincount(grid.assign(coords), minlength=grid.num_cells) > 0).all()
    assert (grid.class_sides_km > 0).all()
    assert np.isfinite(np.concatenate(grid.outlines_deg(grid.kept))).all()
    assert grid.neighbours.shape == (grid.num_cells, grid.num_cells)
    if grid.parents is not None:
        assert set(grid.parents.ravel()) == set(range(grid.num_outputs))


def test_parents_are_the_rasters_cells_that_hold_the_piece(case: Case) -> None:
    grid = case.grid
    if not isinstance(case.builder, OverlayGrid):
        assert grid.parents is None
        assert grid.num_outputs == grid.num_cells
        return

    rasters = case.builder.rasters(case.region)
    assert grid.parents is not None
    assert grid.parents.shape == (grid.num_cells, len(rasters))
    assert np.unique(grid.parents).tolist() == list(range(grid.num_outputs))
    spans = [(column.min(), column.max()) for column in grid.parents.T]
    assert all(before[1] + 1 == after[0] for before, after in itertools.pairwise(spans))
    assert len(np.unique(grid.parents, axis=0)) == grid.num_cells  # a piece is one cell of each

    # Two places share a class just where each raster has them in one cell (but for slivers).
    chart = to_chart(grid.region.to_space(case.places))
    cells = np.stack([raster.cell[raster.strips.locate_chart(chart)] for raster in rasters], axis=-1)
    pieces = np.unique(cells, axis=0, return_inverse=True)[1].ravel()
    classes = grid.assign(case.places)
    same_piece, same_class = pieces[:, None] == pieces, classes[:, None] == classes
    assert (same_piece != same_class).mean() < 0.003


def test_a_staggered_grid_moves_its_second_raster_by_half_a_cell(regions: dict[str, Region]) -> None:
    rasters = StaggeredGrid(size=30).rasters(regions["croatia"])
    first, second = (raster.strips.boxes(np.arange(raster.strips.count)) for raster in rasters)
    half_m = (first[0, 2] - first[0, 0]) / 2
    np.testing.assert_allclose(second[0], first[0] - half_m)


WRONG: list[tuple[Any, str]] = [
    (SquareGrid(size="60"), "size must be a positive integer"),
    (SquareGrid(point=None), "point must be one of centroid, clipped, weighted"),
    (QuadtreeGrid(max_places=0), "max_places must be a positive integer"),
    (QuadtreeGrid(size=60), "size must be null for this grid"),
    (QuadtreeGrid(min_side_km=0), "min_side_km must be a number above 0"),
    (KMeansGrid(size=0), "size must be a positive integer"),
    (KMeansGrid(seed=-1), "seed must be an integer from 0 up"),
    (StaggeredGrid(spacing_km=0), "spacing_km must be a number above 0"),
    (StaggeredGrid(copies=1), "copies must be an integer from 2 to 8"),
    (PyramidGrid(sizes=60), "sizes must be two or more numbers of cells"),
    (PyramidGrid(sizes=[60, 15]), "sizes must ascend"),
    (PyramidGrid(sizes=[15, "x"]), "sizes[1] must be a positive"),
]


@pytest.mark.parametrize(("builder", "rule"), WRONG)
def test_wrong_values_are_refused_before_any_data(builder: GridBuilder, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^{re.escape(f'grid.{rule}')}"):
        builder.check()


@pytest.mark.parametrize(
    ("land", "builder"),
    [
        ("croatia", SquareGrid(spacing_km=0.05)),
        ("world", SquareGrid(size=10**9)),
        ("croatia", StaggeredGrid(spacing_km=0.3)),
        ("croatia", PyramidGrid(sizes=[10, 10**7])),
    ],
)
def test_too_many_cells_are_refused(regions: dict[str, Region], land: str, builder: Any) -> None:
    with pytest.raises(ConfigError, match=r"^grid must not lay more than 4,000,000 cells over the region"):
        builder.fit(regions[land], np.array([(45.8, 16.0)]))


def test_the_requested_number_of_cells(regions: dict[str, Region]) -> None:
    croatia = regions["croatia"]
    assert SquareGrid().requested_cells(croatia) == KMeansGrid().requested_cells(croatia) == 60
    assert SquareGrid().requested_cells(regions["world"]) == 240
    sizes = {name: maker.requested_cells(croatia) for name, maker in MAKERS.items()}
    assert sizes == {**dict.fromkeys(MAKERS), "square": 60, "kmeans": 40}
    assert SquareGrid(spacing_km=10.0).requested_cells(croatia) is None


# Grids of squares


@pytest.fixture(scope="module")
def partial(training: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Places in a part of each region, and a few at sea: some cells stay empty."""
    croatia = training["croatia"][(training["croatia"] > (44.5, 14.0)).all(axis=1)]
    return {
        "croatia": np.concatenate((croatia, AT_SEA)),
        "fiji": np.concatenate((training["fiji"][:30], [(-18.0, 175.5)])),
        "world": np.concatenate((training["world"][::3], [(0.0, -30.0), (-40.0, 90.0)])),
    }


@pytest.mark.parametrize("name", ["croatia", "fiji", "world"])
def test_kept_cells_are_those_with_training_places_and_land(
    regions: dict[str, Region], partial: dict[str, np.ndarray], name: str
) -> None:
    builder = SquareGrid(spacing_km=2500.0) if name == "world" else SquareGrid(size=60)
    grid = builder.fit(regions[name], partial[name])
    occupied = set(grid.cells.locate(grid.region.to_space(partial[name])).tolist())
    assert grid.kept.tolist() == sorted(occupied & set(grid.touching.tolist()))
    assert 1 < grid.num_cells == len(grid.kept) < len(grid.touching)


def test_no_places_and_places_far_from_the_region(regions: dict[str, Region]) -> None:
    grid = SquareGrid().fit(regions["croatia"], AT_SEA)
    assert grid.assign(np.zeros((0, 2))).shape == (0,)
    with pytest.raises(RegionError, match=r"region Croatia must lie within 3000 km of its land"):
        grid.assign(np.array([(-45.0, -164.0)]))


def test_a_mean_across_the_date_line_lies_at_the_date_line(regions: dict[str, Region]) -> None:
    places = np.array([(-16.8, 179.9), (-16.8, -179.9)])
    for name in ("fiji", "world"):
        (point,) = SquareGrid(spacing_km=30_000).fit(regions[name], places).class_points_deg
        assert haversine_km(point, np.array((-16.8, 180.0))) < 0.1


def test_training_places_outside_the_raster_make_a_grid(regions: dict[str, Region]) -> None:
    rome = np.array([(41.9, 12.5), (41.8, 12.6)])
    grid = SquareGrid(size=60, point="weighted").fit(regions["croatia"], rome)
    centres = grid.cells.centres(grid.touching)
    apart = np.linalg.norm(regions["croatia"].to_metres(rome)[:, None] - centres, axis=-1)
    nearest = grid.touching[apart.argmin(axis=1)]  # of the cells with land, those nearest to the places
    assert set(grid.kept) == set(nearest)
    assert grid.kept[grid.assign(rome)].tolist() == nearest.tolist()
    mine = rome[nearest == nearest[0]]
    assert haversine_km(grid.class_points_deg[grid.assign(rome)[0]], mine.mean(axis=0)) < 0.01


@pytest.mark.parametrize("spacing_km", [15, 40.0, 333.3])
def test_spacing_is_the_side_of_a_square_and_wins_over_size(
    regions: dict[str, Region], partial: dict[str, np.ndarray], spacing_km: float
) -> None:
    for size in (60, None, "not even looked at"):
        grid = SquareGrid(size=size, spacing_km=spacing_km).fit(regions["croatia"], partial["croatia"])
        assert grid.cells.side_km == spacing_km
        ring = grid.region.to_metres(grid.outlines_deg(grid.kept)[0])
        np.testing.assert_allclose(np.linalg.norm(np.diff(ring, axis=0), axis=1), 1000 * spacing_km, rtol=1e-6)
