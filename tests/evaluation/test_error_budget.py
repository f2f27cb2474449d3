"""The error budget: sums, groups by hand, and neighbours against the cells' own outlines."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from PIL import Image
from pyproj import Geod
from shapely.geometry import MultiPolygon

from geoguesser.evaluation.error_budget import (
    compute_budget,
    compute_floors_km,
    compute_nearest_km,
    find_touching_cells,
    format_budget,
    name_parts,
)
from geoguesser.geo.distance import EARTH_RADIUS_KM, haversine_km, to_unit
from geoguesser.geo.grid import Grid, SquareGrid
from geoguesser.geo.region import PlaneRegion, world
from geoguesser.model.uncertainty import HeadOutput
from geoguesser.reporting.run import uncertainty_plots as sureness_plots

REGION = PlaneRegion("Toyland", MultiPolygon([shapely.box(15.0, 45.0, 16.0, 45.7)]), "EPSG:3765")


def places(count: int, seed: int) -> Any:
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(45.0, 45.7, count), rng.uniform(15.0, 16.0, count)], axis=-1)


def run_of(count: int) -> tuple[Grid, HeadOutput, Any, Any, dict[str, Any]]:
    train, test = places(300, 0), places(count, 1)
    grid = SquareGrid(size=30).fit(REGION, train)
    rng = np.random.default_rng(2)
    logits = rng.normal(0.0, 2.0, (count, grid.num_cells))
    logits[np.arange(count), grid.assign(test)] += 3.0
    said = HeadOutput(places(count, 3), logits, to_unit(grid.class_points_deg), grid.class_sides_km)
    error_km = haversine_km(said.answers_deg, test)
    found = compute_budget(
        error_km=error_km, test_deg=test, train_deg=train, region=REGION, grid=grid, output=said
    )
    return grid, said, test, error_km, found


def test_every_table_sums_to_the_mean_error() -> None:
    grid, _, test, error_km, found = run_of(200)
    assert found["error_km_mean"] == pytest.approx(error_km.mean(), abs=1e-12)
    floor = haversine_km(grid.class_points_deg[grid.assign(test)], test)
    assert found["floor_km_mean"] == pytest.approx(floor.mean(), abs=1e-9)
    for table in ("by_cell", "by_part", "by_nearest_training_km"):
        groups = found[table].values()
        assert sum(group["km"] for group in groups) == pytest.approx(error_km.mean(), abs=1e-9)
        assert sum(group["floor_km"] + group["excess_km"] for group in groups) == pytest.approx(error_km.mean())
        assert sum(group["places"] for group in groups) == 200
        assert sum(group["share"] for group in groups) == pytest.approx(1.0)
        assert all(group["excess_km"] >= -1e-12 for group in groups)
    json.dumps(found, allow_nan=False)


def test_groups_are_those_of_the_cells() -> None:
    grid, said, test, error_km, found = run_of(200)
    assert said.logits is not None
    right = said.logits.argmax(axis=1) == grid.assign(test)
    group = found["by_cell"]["right"]
    assert group["places"] == right.sum() > 0
    assert group["error_km_mean"] == pytest.approx(error_km[right].mean())
    line = format_budget(found)
    assert line is not None
    assert line.startswith(f"mean error {error_km.mean():.1f} km = floor of the grid ")


@pytest.mark.parametrize("size", [9, 60])
def test_neighbours_are_cells_whose_outlines_touch(size: int) -> None:
    grid = SquareGrid(size=size).fit(REGION, places(300, 0))
    rings = grid.cells.outlines(grid.kept)
    boxes = np.array([shapely.Polygon(ring).buffer(1.0) for ring in rings])
    left, right = (numbers.ravel() for numbers in np.indices((grid.num_cells,) * 2))
    np.testing.assert_array_equal(
        find_touching_cells(grid, left, right), shapely.intersects(boxes[left], boxes[right])
    )


def test_points_that_differ_by_place() -> None:
    vectors, test = to_unit(places(5, 4)), places(3, 5)
    cell = np.array([4, 0, 2])
    expected = haversine_km(places(5, 4)[cell], test)
    np.testing.assert_allclose(compute_floors_km(vectors, cell, test), expected, atol=1e-6)
    np.testing.assert_allclose(
        compute_floors_km(np.broadcast_to(vectors, (3, 5, 3)), cell, test), expected, atol=1e-6
    )


def test_nearest_is_brute_forces() -> None:
    train, test = places(60, 6), places(20, 7)
    geod = Geod(a=EARTH_RADIUS_KM * 1000, f=0)
    all_m = [[geod.inv(a[1], a[0], b[1], b[0])[2] for b in train] for a in test]
    np.testing.assert_allclose(compute_nearest_km(train, test), np.min(all_m, axis=1) / 1000, atol=1e-3)


def test_parts_of_the_plane_are_named_by_the_compass_and_small_ones_merged() -> None:
    train = places(500, 8)
    corners = np.array([(45.65, 15.05), (45.35, 15.5), (45.05, 15.95)])
    test = np.concatenate([np.repeat(corners, (12, 10, 11), axis=0), [(45.65, 15.95)], [(48.0, 12.0)]])
    names = name_parts(REGION, train, test).tolist()
    assert names[:33] == ["north-west"] * 12 + ["centre"] * 10 + ["south-east"] * 11
    assert names[33:] == ["elsewhere", "north-west"]


def test_parts_of_the_world_are_roughly_continents() -> None:
    cities = {
        "Europe": (48.9, 2.4),
        "Africa": (-1.3, 36.8),
        "Asia": (35.7, 139.7),
        "Oceania": (-33.9, 151.2),
        "North America": (40.7, -74.0),
        "South America": (-23.6, -46.6),
        "elsewhere": (-75.0, 0.0),
    }
    test = np.repeat(np.array(list(cities.values()), dtype=float), 10, axis=0)
    names = name_parts(world(), test, test)
    assert names[::10].tolist() == list(cities)


def test_a_head_without_cells_has_its_places_alone(tmp_path: Path) -> None:
    test, train = places(40, 1), places(50, 0)
    error_km = haversine_km(places(40, 3), test)
    said = HeadOutput(test)
    found = compute_budget(
        error_km=error_km, test_deg=test, train_deg=train, region=REGION, grid=None, output=said
    )
    assert found["by_cell"] is None
    assert found["floor_km_mean"] is None
    assert format_budget(found) is None
    assert sum(group["km"] for group in found["by_part"].values()) == pytest.approx(error_km.mean())
    sureness_plots.draw_budget(tmp_path / "a.png", budget=found)


@pytest.mark.parametrize("count", [1, 200])
def test_pictures_of_few_and_of_many(tmp_path: Path, count: int) -> None:
    found = run_of(count)[-1]
    sureness_plots.draw_budget(tmp_path / "a.png", budget=json.loads(json.dumps(found)), title="Some title")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.width == 1200
