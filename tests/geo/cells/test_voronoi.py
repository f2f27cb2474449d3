"""k-means against scikit-learn, and Voronoi cells by hand and by brute force, down to one centre."""

from __future__ import annotations

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.cluster import KMeans

from geoguesser.geo.cells.voronoi import VoronoiCells, kmeans
from geoguesser.geo.distance import EARTH_RADIUS_KM, from_unit, to_unit
from geoguesser.geo.region import PlaneRegion, SphereRegion

PROPERTY = settings(max_examples=40, deadline=None)


def inertia(points: np.ndarray, centres: np.ndarray) -> float:
    return float((np.linalg.norm(points[:, None] - centres, axis=-1).min(axis=1) ** 2).sum())


@pytest.mark.parametrize("size", [2, 10, 60])
@pytest.mark.parametrize("dimensions", [2, 3])
def test_centres_are_about_as_good_as_scikit_learns(size: int, dimensions: int) -> None:
    random = np.random.default_rng(0)
    points = (
        random.normal(size=(1500, dimensions))
        + 4 * random.normal(size=(8, dimensions))[random.integers(0, 8, 1500)]
    )
    if dimensions == 3:
        points /= np.linalg.norm(points, axis=1, keepdims=True)
    theirs = KMeans(size, n_init=1, random_state=0).fit(points)
    ours = [
        inertia(points, kmeans(points, np.ones(1500, dtype=int), size, np.random.default_rng(seed), near=1e-9))
        for seed in range(5)
    ]
    assert np.median(ours) < 1.25 * theirs.inertia_


def test_counts_weigh_like_repeated_places() -> None:
    random = np.random.default_rng(0)
    points, counts = random.normal(size=(40, 2)), random.integers(1, 9, 40)
    (mean,) = kmeans(points, counts, 1, random, near=1e-9)
    np.testing.assert_allclose(mean, np.repeat(points, counts, axis=0).mean(axis=0))


@PROPERTY
@given(size=st.integers(1, 20), distinct=st.integers(1, 12), seed=st.integers(0, 100))
def test_fewer_distinct_places_than_cells_make_a_cell_each(
    croatia: PlaneRegion, earth: SphereRegion, size: int, distinct: int, seed: int
) -> None:
    random = np.random.default_rng(seed)
    places = random.uniform((43.0, 14.0), (46.0, 19.0), (distinct, 2))
    coords = np.concatenate((places, places[random.integers(0, distinct, 30)]))
    for region in (croatia, earth):
        cells = VoronoiCells.over(region, coords, size=size, seed=seed)
        held = np.bincount(cells.locate(region.to_space(coords)), minlength=cells.count)
        assert (held > 0).all()
        assert cells.count <= min(size, distinct)
        if size >= distinct:
            assert cells.count == distinct


def test_the_seed_decides(croatia: PlaneRegion) -> None:
    coords = np.random.default_rng(0).uniform((43.0, 14.0), (46.0, 19.0), (500, 2))
    first, again, other = (
        VoronoiCells.over(croatia, coords, size=30, seed=seed).state()["centres"] for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(first, again)
    assert first.shape != other.shape or not np.allclose(first, other)


@PROPERTY
@given(count=st.integers(1, 30), seed=st.integers(0, 1000))
def test_cells_of_the_plane_are_those_of_geos(count: int, seed: int) -> None:
    centres = np.random.default_rng(seed).uniform((4.5e5, 4.8e6), (6e5, 4.9e6), (count, 2))
    box = [4.4e5, 4.7e6, 6.1e5, 5e6]
    cells = VoronoiCells(centres, box)
    rings = [shapely.Polygon(ring) for ring in cells.outlines(np.arange(count))]
    assert sum(ring.area for ring in rings) == pytest.approx(shapely.box(*box).area)
    if count > 1:
        others = shapely.voronoi_polygons(shapely.MultiPoint(centres), extend_to=shapely.box(*box), ordered=True)
        expected = shapely.intersection(list(others.geoms), shapely.box(*box))
        np.testing.assert_allclose([ring.area for ring in rings], shapely.area(expected), rtol=1e-6)
        edges = shapely.length(
            shapely.intersection(shapely.buffer(expected, 0.01)[:, None], shapely.buffer(expected, 0.01))
        )
        np.fill_diagonal(edges, 0.0)
        near = cells.neighbours(np.arange(count)).toarray()
        assert near[edges > 100.0].all()  # metres of a common edge; shorter ones hang on rounding
        assert not near[edges == 0.0].any()


@PROPERTY
@given(count=st.integers(1, 30), seed=st.integers(0, 1000), tilt=st.floats(0, 3), flat=st.booleans())
def test_cells_of_the_sphere_cover_it(count: int, seed: int, tilt: float, flat: bool) -> None:
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count, 3))
    if flat:  # all on one circle: no hull
        angle = random.permutation(count) + random.uniform(0, 0.8, count)
        centres = np.stack((np.cos(angle * 6 / count), np.sin(angle * 6 / count), np.full(count, 0.4)), axis=-1)
        turn = np.array([[1, 0, 0], [0, np.cos(tilt), -np.sin(tilt)], [0, np.sin(tilt), np.cos(tilt)]])
        centres = centres @ turn.T
    centres /= np.linalg.norm(centres, axis=-1, keepdims=True)
    cells = VoronoiCells(centres, [])
    rings, areas, _ = cells._shapes
    assert areas.sum() == pytest.approx(4 * np.pi * EARTH_RADIUS_KM**2, rel=1e-6)
    points = random.normal(size=(20_000, 3))
    shares = np.bincount(cells.locate(points), minlength=count) / 20_000
    np.testing.assert_allclose(areas / areas.sum(), shares, atol=0.02)
    near = cells.neighbours(np.arange(count)).toarray()
    assert (near == near.T).all()
    assert not near.diagonal().any()
    for number, ring in enumerate(rings if count > 1 else []):
        away = np.linalg.norm(ring[:, None] - centres, axis=-1)
        # On an edge the own centre is as near as any, and another one just as near, a neighbour.
        np.testing.assert_allclose(away[:, number], away.min(axis=1), atol=1e-9)
        away[:, number] = np.inf
        np.testing.assert_allclose(away.min(axis=1), np.linalg.norm(ring - centres[number], axis=-1), atol=1e-4)
        assert near[number, away.argmin(axis=1)].mean() > 0.8


def test_two_centres_halve_the_sphere() -> None:
    cells = VoronoiCells(to_unit(np.array([(90.0, 0.0), (-90.0, 0.0)])), [])
    half = np.sqrt(2 * np.pi) * EARTH_RADIUS_KM
    np.testing.assert_allclose(cells.sides_km(np.arange(2)), half)
    for ring in cells.outlines(np.arange(2)):
        np.testing.assert_allclose(from_unit(ring)[:, 0], 0.0, atol=1e-6)
    assert cells.neighbours(np.arange(2)).toarray().tolist() == [[False, True], [True, False]]


def test_cells_at_the_rim_are_no_larger_than_the_way_to_the_next() -> None:
    centres = np.array([(0.0, 0.0), (1e4, 0.0), (2e4, 0.0)])
    cells = VoronoiCells(centres, [-1e7, -1e7, 1e7, 1e7])
    np.testing.assert_allclose(cells.sides_km(np.arange(3)), 20.0)


def test_places_nearer_than_ten_metres_are_one(croatia: PlaneRegion) -> None:
    coords = np.array([(45.8, 16.0), (45.80005, 16.0), (45.9, 16.0)])  # 5.6 m, 11 km
    assert VoronoiCells.over(croatia, coords, size=3, seed=0).count == 2
