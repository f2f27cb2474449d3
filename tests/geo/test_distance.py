"""Distances against pyproj.Geod on a sphere of the same radius, and scipy."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest
import torch
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from support.geodesics import compute_geod_km

from geoguesser.geo.distance import EARTH_RADIUS_KM, chord_to_km, from_unit, haversine_km, to_unit

PROPERTY = settings(max_examples=50, deadline=None)
places = st.tuples(st.floats(-90, 90), st.floats(-180, 180)).map(np.array)


def torch_km(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return haversine_km(torch.from_numpy(a), torch.from_numpy(b)).numpy()


def test_the_radius_is_the_iugg_mean_radius() -> None:
    ellipsoid = pyproj.Geod(ellps="WGS84")
    assert pytest.approx((2 * ellipsoid.a + ellipsoid.b) / 3000, abs=1e-4) == EARTH_RADIUS_KM


def test_the_sphere_is_off_the_ellipsoid_by_no_more_than_is_documented() -> None:
    a_deg, b_deg = np.random.default_rng(0).uniform((42.3, 13.4), (46.6, 19.5), (2, 1000, 2))
    geodesic_km = compute_geod_km(a_deg, b_deg, pyproj.Geod(ellps="WGS84"))
    assert np.abs(haversine_km(a_deg, b_deg) / geodesic_km - 1.0).max() < 0.003


@PROPERTY
@given(a=places, b=places)
@example(a=np.array((0.0, 180.0)), b=np.array((0.0, -180.0)))  # the date line itself
@example(a=np.array((0.0, 179.5)), b=np.array((0.0, -179.5)))
@example(a=np.array((90.0, 0.0)), b=np.array((90.0, 123.0)))  # one pole, two longitudes
@example(a=np.array((90.0, 0.0)), b=np.array((-90.0, 0.0)))  # antipodes
def test_numpy_and_torch_agree_with_geod(a: np.ndarray, b: np.ndarray) -> None:
    # At antipodes the formula is good to a few decimetres (arcsin near 1), hence 1 m.
    expected = compute_geod_km(a, b)
    assert haversine_km(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-3)
    assert torch_km(a, b) == pytest.approx(expected, rel=1e-9, abs=1e-3)


@PROPERTY
@given(a=places, north=st.floats(-1e-3, 1e-3), east=st.floats(-1e-3, 1e-3))
def test_distances_of_metres_are_good_to_a_millimetre(a: np.ndarray, north: float, east: float) -> None:
    b = np.array((np.clip(a[0] + north, -90, 90), np.clip(a[1] + east, -180, 180)))
    assert haversine_km(a, b) == pytest.approx(compute_geod_km(a, b), abs=1e-6)


@PROPERTY
@given(a=places, b=places)
def test_near_antipodes_stay_finite_and_within_half_the_circumference(a: np.ndarray, b: np.ndarray) -> None:
    antipode = np.array((-a[0], a[1] - 180 if a[1] > 0 else a[1] + 180))
    near = antipode + (b - antipode) * 1e-12
    for distance in (haversine_km, torch_km):
        assert distance(a, near) == pytest.approx(math.pi * EARTH_RADIUS_KM, abs=1e-3)


def test_single_precision_is_good_to_metres_within_a_country() -> None:
    random = np.random.default_rng(0)
    a, b = random.uniform((42.4, 13.4), (46.6, 19.5), (2, 1000, 2))
    got = haversine_km(torch.from_numpy(a).float(), torch.from_numpy(b).float())
    assert got.dtype == torch.float32
    np.testing.assert_allclose(got.numpy(), compute_geod_km(a, b), atol=5e-3)


def test_leading_axes_broadcast() -> None:
    random = np.random.default_rng(1)
    a, b = random.uniform((-90, -180), (90, 180), (4, 1, 2)), random.uniform((-90, -180), (90, 180), (1, 3, 2))
    for distance in (haversine_km, torch_km):
        np.testing.assert_allclose(distance(a, b), compute_geod_km(a, b), atol=1e-6)


def test_axes_of_unit_vectors() -> None:
    coords = np.array([(0.0, 0.0), (0.0, 90.0), (90.0, 55.0), (0.0, 180.0)])
    np.testing.assert_allclose(to_unit(coords), [(1, 0, 0), (0, 1, 0), (0, 0, 1), (-1, 0, 0)], atol=1e-15)


@PROPERTY
@given(coords=arrays(float, (5, 2), elements=st.floats(-1, 1)), length=st.floats(1e-6, 1e6))
def test_from_unit_inverts_to_unit(coords: np.ndarray, length: float) -> None:
    coords = coords * (90.0, 180.0)
    vectors = to_unit(coords)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=-1), 1.0, rtol=1e-12)
    back = from_unit(vectors * length)
    assert (np.abs(back) <= (90.0, 180.0)).all()
    np.testing.assert_allclose(haversine_km(back, coords), 0.0, atol=1e-6)
    away_from_poles = np.abs(coords[:, 0]) < 89
    np.testing.assert_allclose(back[away_from_poles, 0], coords[away_from_poles, 0], atol=1e-9)
    around = (back - coords)[away_from_poles, 1]
    np.testing.assert_allclose((around + 180) % 360 - 180, 0.0, atol=1e-9)  # 180 east is 180 west
    np.testing.assert_allclose(to_unit(torch.from_numpy(coords)), vectors, atol=1e-14)
    np.testing.assert_allclose(from_unit(torch.from_numpy(vectors * length)), back, atol=1e-12)


def test_from_unit_takes_the_zero_vector() -> None:
    np.testing.assert_array_equal(from_unit(np.zeros((1, 3))), [[0.0, 0.0]])
    np.testing.assert_array_equal(from_unit(torch.zeros(1, 3)), [[0.0, 0.0]])


def test_arcs_of_chords_are_great_circle_distances() -> None:
    rng = np.random.default_rng(0)
    a, b = rng.uniform((-90, -180), (90, 180), (2, 200, 2))
    chords = np.linalg.norm(to_unit(a) - to_unit(b), axis=-1)
    np.testing.assert_allclose(chord_to_km(chords), haversine_km(a, b), rtol=1e-9)
    np.testing.assert_allclose(chord_to_km(torch.from_numpy(chords)).numpy(), chord_to_km(chords), rtol=1e-12)
    half = np.pi * EARTH_RADIUS_KM
    np.testing.assert_allclose(
        chord_to_km(np.array([0.0, np.sqrt(2.0), 2.0, 2.0 + 1e-12])), [0, half / 2, half, half]
    )
