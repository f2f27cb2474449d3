"""Sampling strategies: uniformity against computed areas, spacing, quotas, gaps, and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import geopandas
import numpy as np
import pytest
import shapely
from scipy.spatial import cKDTree
from scipy.stats import chisquare
from shapely.geometry import LineString, MultiPolygon, Point, box
from support.collect_config import load_settings
from support.vector_files import write_layer, write_places_csv

from geoguesser.collecting.planning.layers import Layer
from geoguesser.collecting.planning.plan_lines import format_plan
from geoguesser.collecting.planning.strategies import FillGaps, PerCell, Strategy, Uniform
from geoguesser.errors import ConfigError
from geoguesser.geo.distance import chord_to_km, haversine_km, to_unit
from geoguesser.geo.region import PlaneRegion, SphereRegion

SQUARE = PlaneRegion("square", MultiPolygon([box(16, 45, 16.4, 45.3)]))  # 31 km by 33 km


def nearest_m(points: np.ndarray) -> float:
    """Computes the smallest great-circle distance between two points."""
    pairs = cKDTree(to_unit(points)).query(to_unit(points), k=2)[1]
    return float(haversine_km(points, points[pairs[:, 1]]).min()) * 1000


def check_even(region: Any, boxes: list, equal_area: object, *, places: int, seed: int) -> None:
    """Checks the counts of points in boxes, given the areas of their land in another projection."""
    points = Uniform(spacing_m=0.0).sample(region, places=places, seed=seed)
    assert region.contains(points).all()
    land = shapely.union_all(shapely.make_valid(shapely.get_parts(region.land_deg)))
    pieces = geopandas.GeoSeries(boxes, crs=4326).intersection(land)
    pieces = pieces[~pieces.is_empty]
    areas = pieces.segmentize(0.05).to_crs(equal_area).area.to_numpy()

    at = shapely.STRtree(pieces).query(shapely.points(points[:, ::-1]), predicate="intersects")[1]
    counts = np.bincount(at, minlength=len(pieces))
    assert counts.sum() >= 0.99 * len(points)  # between two boxes, or on a shore that is no straight line here
    large = areas > 0.002 * areas.sum()
    expected = areas[large] / areas[large].sum() * counts[large].sum()
    assert chisquare(counts[large], expected).pvalue > 0.001


def test_uniform_is_even_where_the_crs_is_not() -> None:
    """UTM far off its meridian enlarges areas: in the east of this land 15 % more than in the west."""
    land = shapely.segmentize(box(15, 45, 45, 46), 0.05)  # otherwise its edges are straight in the plane only
    region = PlaneRegion("wide", MultiPolygon([land]), "EPSG:32633")
    check_even(region, [box(x, 45, x + 2, 46) for x in range(15, 45, 2)], 6933, places=60_000, seed=3)


@pytest.mark.filterwarnings("error")
def test_uniform_is_even_where_boxes_stick_out_of_the_projection() -> None:
    """Land of nearly the complete world on a plane, whose corners lie outside the projection."""
    land = shapely.segmentize(box(-170, -80, 170, 80), 0.5)
    region = PlaneRegion("most", MultiPolygon([land]))
    points = Uniform(spacing_m=5000.0).sample(region, places=10_000, seed=0)
    sines = np.sin(np.radians(points[:, 0])) / np.sin(np.radians(80.0))
    for even in (sines, points[:, 1] / 170.0):
        observed = np.histogram(even, bins=20, range=(-1.0, 1.0))[0]
        assert chisquare(observed, np.full(20, observed.sum() / 20)).pvalue > 0.001


def test_uniform_is_even_over_the_world(earth: SphereRegion) -> None:
    """By bands of latitude, against the areas of land in them by a cylindrical equal-area projection."""
    bands = [box(-180, south, 180, south + 10) for south in range(-90, 90, 10)]
    check_even(earth, bands, "+proj=cea +R=6371008.8", places=20_000, seed=2)


@pytest.mark.parametrize("spacing", [300.0, 2000.0, 6000.0])
def test_no_two_points_are_nearer_than_the_spacing(spacing: float) -> None:
    for strategy in (Uniform(spacing_m=spacing), PerCell(size=9, spacing_m=spacing)):
        points = strategy.sample(SQUARE, places=60, seed=3)
        assert nearest_m(points) >= spacing
        assert SQUARE.contains(points).all()


def test_land_that_is_full_is_full_and_said_to_be() -> None:
    """No point of the land is farther than the spacing from a point: one more would not fit anywhere."""
    strategy = Uniform(spacing_m=2000.0)
    points = strategy.sample(SQUARE, places=5000, seed=0)
    assert nearest_m(points) >= 2000.0
    random = Uniform(spacing_m=0.0).sample(SQUARE, places=20_000, seed=9)
    away_m = chord_to_km(cKDTree(to_unit(points)).query(to_unit(random))[0]) * 1000
    assert away_m.max() <= 2000.0
    report = strategy.report()
    assert (report["asked"], report["made"], report["short"]) == (5000, len(points), 5000 - len(points))
    assert report["refused_spacing"] > 0
    # The jamming limit of random discs in a plane is 0.547; edges add some.
    fits = SQUARE.area_km2 / (np.pi * 1.0**2) * 0.547
    assert fits * 0.98 < len(points) < fits * 1.2
    text = "points fewer than requested: the spacing leaves no more room"
    assert format_plan(report)[-1] == f"{report['short']:,} {text}"


def test_points_keep_away_from_places_that_exist(tmp_path: Path) -> None:
    existing = Uniform(spacing_m=0.0).sample(SQUARE, places=50, seed=4)
    path = write_places_csv(tmp_path / "data.csv", existing)
    for strategy in (Uniform, PerCell, FillGaps):
        points = strategy(spacing_m=1500.0, existing=str(path)).sample(SQUARE, places=40, seed=5)
        assert len(points) == 40
        assert haversine_km(points[:, None], existing[None]).min() >= 1.5


def test_points_lie_near_the_layer(tmp_path: Path) -> None:
    line = LineString([(15.9, 45.1), (16.2, 45.12), (16.2, 45.4)])
    strategy = Uniform(near=str(write_layer(tmp_path / "layer.gpkg", [line])), near_m=200.0, spacing_m=20.0)
    points = strategy.sample(SQUARE, places=400, seed=0)
    assert len(points) == 400
    assert Layer(np.array([line], dtype=object)).within(points, 200.0).all()
    assert strategy.report()["refused_near"] > 0
    assert "within 200 m of" in format_plan(strategy.report())[1]


def test_a_layer_off_the_land_leaves_no_room(tmp_path: Path) -> None:
    path = write_layer(tmp_path / "far.gpkg", [Point(20, 50)])
    strategy = Uniform(near=str(path))
    assert strategy.sample(SQUARE, places=10, seed=0).shape == (0, 2)
    assert format_plan(strategy.report())[-1].endswith("the spacing and the layer leave no more room") is True


def test_quotas_are_equal_to_one(croatia: Any) -> None:
    strategy = PerCell(cell_km=40.0, spacing_m=50.0)
    points = strategy.sample(croatia, places=2000, seed=0)
    report = strategy.report()
    side = 40_000.0
    west, south, east, north = croatia.land_m.bounds
    columns, rows = np.ceil((east - west) / side), np.ceil((north - south) / side)
    corner = ((west + east - columns * side) / 2, (south + north - rows * side) / 2)
    cells = np.floor((croatia.to_metres(points) - corner) / side).astype(int)
    numbers, counts = np.unique(cells, axis=0, return_counts=True)
    assert len(numbers) == report["cells"]
    assert set(counts) <= {2000 // report["cells"], 2000 // report["cells"] + 1}
    assert (report["min_in_cell"], report["max_in_cell"]) == (counts.min(), counts.max())
    assert (report["cells_short"], report["cells_empty"]) == (0, 0)


def test_a_cell_without_room_leaves_its_share_to_the_others() -> None:
    """A square of 4 cells, of which the land fills three and a small corner of the fourth."""
    land = MultiPolygon([box(0, 0, 0.2, 0.098), box(0, 0.098, 0.098, 0.2), box(0.199, 0.199, 0.2, 0.2)])
    region = PlaneRegion("corner", land)
    strategy = PerCell(cell_km=11.2, spacing_m=100.0)
    points = strategy.sample(region, places=400, seed=0)
    report = strategy.report()
    assert len(points) == 400
    assert report["cells"] == 4
    assert report["cells_short"] == 1
    assert 0 < report["min_in_cell"] < 10
    assert report["max_in_cell"] - (400 - report["min_in_cell"]) // 3 <= 1
    assert nearest_m(points) >= 100.0


def test_quotas_over_the_world(earth: SphereRegion) -> None:
    points = (strategy := PerCell(size=100)).sample(earth, places=1000, seed=0)
    report = strategy.report()
    assert len(points) == 1000
    assert earth.contains(points).all()
    assert report["max_in_cell"] - report["min_in_cell"] <= 1


def test_the_largest_gap_is_first(tmp_path: Path) -> None:
    west = Uniform(spacing_m=0.0).sample(SQUARE, places=300, seed=0)
    existing = west[west[:, 1] < 16.2]
    strategy = FillGaps(existing=str(write_places_csv(tmp_path / "data.csv", existing)), candidates=5000)
    points = strategy.sample(SQUARE, places=50, seed=1)
    gaps = [haversine_km(existing, points[0]).min()]
    gaps += [haversine_km(np.concatenate((existing, points[:n])), points[n]).min() for n in range(1, 50)]
    assert (np.diff(gaps) <= 1e-9).all()
    random = Uniform(spacing_m=0.0).sample(SQUARE, places=5000, seed=7)
    farthest = haversine_km(random[:, None], existing[None]).min(axis=1).max()
    assert gaps[0] == pytest.approx(farthest, rel=0.03)
    assert (points[:, 1] > 16.19).mean() > 0.8  # the empty half
    report = strategy.report()
    assert (report["largest_gap_km"], report["last_gap_km"]) == pytest.approx((gaps[0], gaps[-1]))
    assert report["existing"] == len(existing)


def test_a_longer_plan_begins_with_the_shorter(tmp_path: Path) -> None:
    path = str(write_places_csv(tmp_path / "data.csv", np.array([[45.1, 16.1]])))
    for strategy in (Uniform(spacing_m=300.0), PerCell(size=12), FillGaps(existing=path, candidates=4000)):
        long = strategy.sample(SQUARE, places=1700, seed=3)
        for count in (1, 40, 1100):
            np.testing.assert_array_equal(strategy.sample(SQUARE, places=count, seed=3), long[:count])
        assert not np.array_equal(strategy.sample(SQUARE, places=40, seed=4), long[:40])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Uniform(spacing_m=-1.0), r"^strategy\.spacing_m must be a number from 0 to 1e\+06, got -1\.0"),
        (lambda: Uniform(near_m=0.0), r"^strategy\.near_m must be a number above 0"),
        (lambda: PerCell(size=0), r"^strategy\.size must be an integer from 1"),
        (lambda: PerCell(size=None), r"^strategy\.size must be given, or strategy\.cell_km"),
        (lambda: PerCell(cell_km=0.0), r"^strategy\.cell_km must be a number from 0\.1"),
        (FillGaps, r"^strategy\.existing must name a data\.csv .* got None\. Without existing places"),
        (lambda: FillGaps(existing="x", candidates=1), r"^strategy\.candidates must be an integer from 2"),
        (lambda: Uniform().sample(SQUARE, places=0, seed=0), r"^places must be an integer from 1"),
        (lambda: Uniform().sample(SQUARE, places=1, seed=-1), r"^seed must be an integer from 0"),
    ],
)
def test_values_that_break_a_rule_are_named(make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make()


def test_candidates_must_suffice(tmp_path: Path) -> None:
    path = write_places_csv(tmp_path / "data.csv", np.array([[45.1, 16.1]]))
    with pytest.raises(ConfigError, match=r"^strategy\.candidates must be at least twice places=600, got 1000"):
        FillGaps(existing=str(path), candidates=1000).sample(SQUARE, places=600, seed=0)


@pytest.mark.parametrize("strategy", [Uniform(), PerCell(), FillGaps(existing="a")], ids=lambda one: one.name)
def test_the_defaults_of_the_config_are_those_of_the_classes(strategy: Strategy) -> None:
    settings = load_settings(f"strategy/{strategy.name}") | {"existing": strategy.existing}
    assert type(strategy)(**settings) == strategy
