"""Interactive maps: outlines and cells as GeoJSON, also across the date line and around the poles."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import shapely
from shapely.geometry import shape
from support.region_places import sample_land

from geoguesser.geo.distance import from_unit
from geoguesser.geo.grid import Grid, GridBuilder, SquareGrid
from geoguesser.geo.grid_builders import KMeansGrid
from geoguesser.reporting import web_map


def sample_sphere() -> np.ndarray:
    """Returns places on the sphere, including poles and date line."""
    coords = from_unit(np.random.default_rng(0).normal(size=(3000, 3)))
    edges = [[10.0, 180.0], [-10.0, -180.0], [89.9, 0.0], [-89.9, 0.0], [0.0, 179.99]]
    return np.concatenate((coords, edges))


def get_ring(feature: dict[str, Any]) -> np.ndarray:
    (ring,) = feature["geometry"]["coordinates"]
    return np.array(ring)


def test_leaflet_references_no_other_file():
    script, style = web_map.load_leaflet()
    assert "Leaflet 1.9.4" in script
    assert "sourceMappingURL" not in script
    assert "</script" not in script.lower()
    assert "url(" not in style
    assert ".leaflet-container" in style


@pytest.mark.parametrize("max_points", [10_000, 500, 60])
def test_an_outline_is_small_and_still_the_land(max_points: int, croatia):
    outline = web_map.make_outline(croatia, max_points=max_points)
    land = shape(outline)
    assert outline["type"] == "MultiPolygon"
    assert shapely.get_num_coordinates(land) <= max_points
    assert land.is_valid
    apart = land.symmetric_difference(croatia.land_deg).area / croatia.land_deg.area
    assert apart < {10_000: 1e-3, 500: 0.05, 60: 0.2}[max_points]
    assert json.loads(json.dumps(outline)) == outline
    numbers = shapely.get_coordinates(land)
    np.testing.assert_array_equal(numbers, np.round(numbers, web_map.DIGITS))


def test_bounds_have_the_order_of_leaflet(croatia):
    west, south, east, north = croatia.land_deg.bounds
    assert web_map.compute_bounds(croatia) == [[south, west], [north, east]]


@pytest.mark.parametrize("builder", [SquareGrid(size=60), KMeansGrid(size=20)])
def test_a_cell_of_a_country_holds_its_own_places(builder: GridBuilder, croatia):
    places = sample_land(croatia, 300)
    grid = builder.fit(croatia, places)
    cells = web_map.make_cells(grid)
    assert [feature["id"] for feature in cells["features"]] == list(range(grid.num_cells))
    cell, inside = grid.assign(places), grid.inside(places)
    polygons = np.array([shapely.Polygon(get_ring(feature)).buffer(0.002) for feature in cells["features"]])
    assert shapely.contains_xy(polygons[cell[inside]], *places[inside].T[::-1]).all()
    assert all((get_ring(feature)[0] == get_ring(feature)[-1]).all() for feature in cells["features"])
    assert json.loads(json.dumps(cells)) == cells


def test_cells_of_chosen_classes(croatia):
    grid = SquareGrid(size=60).fit(croatia, sample_land(croatia, 300))
    cells = web_map.make_cells(grid, np.array([4, 2]))
    assert [feature["id"] for feature in cells["features"]] == [4, 2]
    everything = web_map.make_cells(grid)["features"]
    assert [feature["geometry"] for feature in cells["features"]] == [everything[at]["geometry"] for at in (4, 2)]
    assert web_map.make_cells(grid, np.zeros(0, dtype=np.int64))["features"] == []


@pytest.fixture(scope="module")
def world_grid(earth) -> Grid:
    return SquareGrid(size=240).fit(earth, sample_sphere())


def test_no_cell_of_the_world_runs_across_the_map(world_grid: Grid):
    """Only a cell around a pole may be 360 degrees wide."""
    for feature in web_map.make_cells(world_grid)["features"]:
        ring = get_ring(feature)
        assert np.abs(np.diff(ring[:, 0])).max() <= 180.0
        assert np.abs(ring[:, 1]).max() <= 90.0
        width = np.ptp(ring[:, 0])
        if np.abs(ring[:, 1]).max() < 75.0:
            assert width < 60.0


def test_a_cell_over_the_date_line_goes_on_beyond_it(earth):
    """Voronoi cells do not end at the date line, as bands do."""
    grid = KMeansGrid(size=60).fit(earth, sample_sphere())
    rings = [get_ring(feature) for feature in web_map.make_cells(grid)["features"]]
    crossing = [ring for ring in rings if np.abs(ring[:, 0]).max() > 180.0 + 1e-6]
    assert len(crossing) >= 3
    assert all(np.abs(np.diff(ring[:, 0])).max() < 180.0 for ring in rings)


def test_cells_of_the_world_hold_their_places(world_grid: Grid):
    places = sample_sphere()
    inside = world_grid.inside(places) & (np.abs(places[:, 0]) < 75.0)
    polygons = [shapely.Polygon(get_ring(feature)) for feature in web_map.make_cells(world_grid)["features"]]
    for cell, (lat, lon) in zip(world_grid.assign(places[inside]), places[inside], strict=True):
        polygon = polygons[cell].buffer(0.05)
        assert any(polygon.contains(shapely.Point(lon + turn, lat)) for turn in (-360.0, 0.0, 360.0))
