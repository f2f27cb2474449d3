"""Maps that can be moved: outlines and cells as GeoJSON, over the date line and the poles as well."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
import shapely
from shapely.geometry import shape

from geoguesser.geo.grid import Grid, GridBuilder, SquareGrid
from geoguesser.geo.grid_builders import KMeansGrid, QuadtreeGrid, StaggeredGrid
from geoguesser.reporting import web_map


def everywhere(count: int = 3000) -> np.ndarray:
    """Places all over the sphere, poles and date line included."""
    vectors = np.random.default_rng(0).normal(size=(count, 3))
    latitude = np.degrees(np.arcsin(vectors[:, 2] / np.linalg.norm(vectors, axis=1)))
    coords = np.stack((latitude, np.degrees(np.arctan2(vectors[:, 1], vectors[:, 0]))), axis=-1)
    edges = [[10.0, 180.0], [-10.0, -180.0], [89.9, 0.0], [-89.9, 0.0], [0.0, 179.99]]
    return np.concatenate((coords, edges))


def in_croatia(region: Any, count: int = 300) -> np.ndarray:
    west, south, east, north = region.land_deg.bounds
    coords = np.random.default_rng(0).uniform((south, west), (north, east), (10 * count, 2))
    return coords[region.contains(coords)][:count]


def ring_of(feature: dict[str, Any]) -> np.ndarray:
    (ring,) = feature["geometry"]["coordinates"]
    return np.array(ring)


def test_leaflet_is_there_and_asks_for_nothing():
    script, style = web_map.load_leaflet()
    assert "Leaflet 1.9.4" in script
    assert "sourceMappingURL" not in script
    assert "</script" not in script.lower()
    assert "url(" not in style
    assert ".leaflet-container" in style


@pytest.mark.parametrize("most", [10_000, 500, 60])
def test_an_outline_is_small_and_still_the_land(most: int, croatia):
    found = web_map.make_outline(croatia, max_points=most)
    land = shape(found)
    assert found["type"] == "MultiPolygon"
    assert shapely.get_num_coordinates(land) <= most
    assert land.is_valid
    apart = land.symmetric_difference(croatia.land_deg).area / croatia.land_deg.area
    assert apart < {10_000: 1e-3, 500: 0.05, 60: 0.2}[most]
    assert json.loads(json.dumps(found)) == found
    numbers = shapely.get_coordinates(land)
    np.testing.assert_array_equal(numbers, np.round(numbers, web_map.DIGITS))


def test_the_outline_of_the_world_is_small(earth):
    land = shape(web_map.make_outline(earth))
    assert 5000 < shapely.get_num_coordinates(land) <= 10_000
    assert shapely.is_valid(shapely.get_parts(land)).all()
    west, south, east, north = land.bounds
    assert (west, east) == pytest.approx((-180.0, 180.0), abs=1.0)
    assert (south, north) == pytest.approx((-90.0, 83.6), abs=1.5)
    assert land.area == pytest.approx(earth.land_deg.area, rel=0.05)


def test_bounds_are_as_leaflet_wants_them(croatia):
    west, south, east, north = croatia.land_deg.bounds
    assert web_map.compute_bounds(croatia) == [[south, west], [north, east]]


MAKERS = [SquareGrid(size=60), QuadtreeGrid(max_places=40), KMeansGrid(size=20), StaggeredGrid(size=20)]


@pytest.mark.parametrize("maker", MAKERS)
def test_a_cell_of_a_country_holds_its_own_places(maker: GridBuilder, croatia):
    places = in_croatia(croatia)
    grid = maker.fit(croatia, places)
    found = web_map.make_cells(grid)
    assert [one["id"] for one in found["features"]] == list(range(grid.num_cells))
    own, inside = grid.assign(places), grid.inside(places)
    polygons = np.array([shapely.Polygon(ring_of(one)).buffer(0.002) for one in found["features"]])
    assert shapely.contains_xy(polygons[own[inside]], *places[inside].T[::-1]).all()
    assert all((ring_of(one)[0] == ring_of(one)[-1]).all() for one in found["features"])
    assert json.loads(json.dumps(found)) == found


def test_only_the_cells_asked_for(croatia):
    grid = SquareGrid(size=60).fit(croatia, in_croatia(croatia))
    found = web_map.make_cells(grid, np.array([4, 2]))
    assert [one["id"] for one in found["features"]] == [4, 2]
    whole = web_map.make_cells(grid)["features"]
    assert [one["geometry"] for one in found["features"]] == [whole[4]["geometry"], whole[2]["geometry"]]
    assert web_map.make_cells(grid, np.zeros(0, dtype=np.int64))["features"] == []


@pytest.fixture(scope="module")
def world_grid(earth) -> Grid:
    return SquareGrid(size=240).fit(earth, everywhere())


def test_no_cell_of_the_world_runs_across_the_map(world_grid: Grid):
    """Only a cell around a pole may be 360 degrees wide."""
    for feature in web_map.make_cells(world_grid)["features"]:
        ring = ring_of(feature)
        assert np.abs(np.diff(ring[:, 0])).max() <= 180.0
        assert np.abs(ring[:, 1]).max() <= 90.0
        width = np.ptp(ring[:, 0])
        if np.abs(ring[:, 1]).max() < 75.0:
            assert width < 60.0


def test_a_cell_over_the_date_line_goes_on_beyond_it(earth):
    """Voronoi cells do not end at the date line, as bands do."""
    grid = KMeansGrid(size=60).fit(earth, everywhere())
    rings = [ring_of(one) for one in web_map.make_cells(grid)["features"]]
    crossing = [ring for ring in rings if np.abs(ring[:, 0]).max() > 180.0 + 1e-6]
    assert len(crossing) >= 3
    assert all(np.abs(np.diff(ring[:, 0])).max() < 180.0 for ring in rings)


def test_cells_of_the_world_hold_their_places(world_grid: Grid):
    places = everywhere()
    inside = world_grid.inside(places) & (np.abs(places[:, 0]) < 75.0)
    polygons = [shapely.Polygon(ring_of(one)) for one in web_map.make_cells(world_grid)["features"]]
    for cell, (lat, lon) in zip(world_grid.assign(places[inside]), places[inside], strict=True):
        own = polygons[cell].buffer(0.05)
        assert any(own.contains(shapely.Point(lon + turn, lat)) for turn in (-360.0, 0.0, 360.0))
