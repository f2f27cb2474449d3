"""Error budget: sums, groups by hand, and neighbours against the outlines of cells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import shapely
from support.geodesics import compute_geod_km
from support.pictures import draw_picture
from support.toy_run import REGION, draw_places

from geoguesser.evaluation.error_budget import (
    compute_budget,
    compute_floors_km,
    compute_nearest_km,
    find_touching_cells,
    format_error_budget,
    name_parts,
)
from geoguesser.geo.distance import haversine_km, to_unit
from geoguesser.geo.grid import Grid, SquareGrid
from geoguesser.geo.region import world
from geoguesser.model.uncertainty import HeadOutput
from geoguesser.reporting.run import uncertainty_plots


def make_budget(count: int) -> tuple[Grid, HeadOutput, Any, Any, dict[str, Any]]:
    train, test = draw_places(300, 0), draw_places(count, 1)
    grid = SquareGrid(size=30).fit(REGION, train)
    rng = np.random.default_rng(2)
    logits = rng.normal(0.0, 2.0, (count, grid.num_cells))
    logits[np.arange(count), grid.assign(test)] += 3.0
    output = HeadOutput(draw_places(count, 3), logits, to_unit(grid.class_points_deg), grid.class_sides_km)
    error_km = haversine_km(output.answers_deg, test)
    budget = compute_budget(
        error_km=error_km, test_deg=test, train_deg=train, region=REGION, grid=grid, output=output
    )
    return grid, output, test, error_km, budget


def test_every_table_sums_to_the_mean_error() -> None:
    grid, output, test, error_km, budget = make_budget(200)
    assert budget["error_km_mean"] == pytest.approx(error_km.mean(), abs=1e-12)
    floor = haversine_km(grid.class_points_deg[grid.assign(test)], test)
    assert budget["floor_km_mean"] == pytest.approx(floor.mean(), abs=1e-9)

    for table in ("by_cell", "by_part", "by_nearest_training_km"):
        groups = budget[table].values()
        assert sum(group["km"] for group in groups) == pytest.approx(error_km.mean(), abs=1e-9)
        assert sum(group["floor_km"] + group["excess_km"] for group in groups) == pytest.approx(error_km.mean())
        assert sum(group["places"] for group in groups) == 200
        assert sum(group["share"] for group in groups) == pytest.approx(1.0)
        assert all(group["excess_km"] >= -1e-12 for group in groups)
    json.dumps(budget, allow_nan=False)

    right = output.logits.argmax(axis=1) == grid.assign(test)
    group = budget["by_cell"]["right"]
    assert group["places"] == right.sum() > 0
    assert group["error_km_mean"] == pytest.approx(error_km[right].mean())
    line = f"mean error {error_km.mean():.1f} km = floor of the grid "
    assert format_error_budget(budget).startswith(line)


@pytest.mark.parametrize("size", [9, 60])
def test_cells_touch_if_their_outlines_do(size: int) -> None:
    grid = SquareGrid(size=size).fit(REGION, draw_places(300, 0))
    rings = grid.cells.outlines(grid.kept)
    boxes = np.array([shapely.Polygon(ring).buffer(1.0) for ring in rings])
    left, right = (numbers.ravel() for numbers in np.indices((grid.num_cells,) * 2))
    np.testing.assert_array_equal(
        find_touching_cells(grid, left, right), shapely.intersects(boxes[left], boxes[right])
    )


def test_floors_of_class_points_that_differ_by_place() -> None:
    vectors, test = to_unit(draw_places(5, 4)), draw_places(3, 5)
    cell = np.array([4, 0, 2])
    expected = haversine_km(draw_places(5, 4)[cell], test)
    np.testing.assert_allclose(compute_floors_km(vectors, cell, test), expected, atol=1e-6)
    by_place = np.broadcast_to(vectors, (3, 5, 3))
    np.testing.assert_allclose(compute_floors_km(by_place, cell, test), expected, atol=1e-6)


def test_nearest_distance_agrees_with_brute_force() -> None:
    train, test = draw_places(60, 6), draw_places(20, 7)
    expected_km = compute_geod_km(test[:, None], train).min(axis=1)
    np.testing.assert_allclose(compute_nearest_km(train, test), expected_km, atol=1e-3)


def test_parts_of_the_plane_are_named_by_the_compass_and_small_ones_merged() -> None:
    train = draw_places(500, 8)
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


def test_a_head_without_cells_has_no_floors(tmp_path: Path) -> None:
    test, train = draw_places(40, 1), draw_places(50, 0)
    error_km = haversine_km(draw_places(40, 3), test)
    output = HeadOutput(test)
    budget = compute_budget(
        error_km=error_km, test_deg=test, train_deg=train, region=REGION, grid=None, output=output
    )
    assert budget["by_cell"] is None
    assert budget["floor_km_mean"] is None
    assert format_error_budget(budget) is None
    assert sum(group["km"] for group in budget["by_part"].values()) == pytest.approx(error_km.mean())
    draw_picture(tmp_path, uncertainty_plots.draw_budget, budget=budget)


@pytest.mark.parametrize("count", [1, 200])
def test_pictures_of_few_and_many_places(tmp_path: Path, count: int) -> None:
    budget = make_budget(count)[-1]
    recorded = json.loads(json.dumps(budget))
    draw_picture(tmp_path, uncertainty_plots.draw_budget, budget=recorded, title="Some title")
