"""The audit: distances to the nearest training place, against all pairs by pyproj."""

from __future__ import annotations

import math

import numpy as np
import pyproj
import pytest

from geoguesser.data.checks.leakage import audit_split, compute_nearest_training_km
from geoguesser.geo.distance import EARTH_RADIUS_KM

SPHERE = pyproj.Geod(a=EARTH_RADIUS_KM * 1000, f=0)


def all_pairs_km(coords: np.ndarray) -> np.ndarray:
    count = len(coords)
    a, b = np.repeat(coords, count, axis=0), np.tile(coords, (count, 1))
    return np.array(SPHERE.inv(a[:, 1], a[:, 0], b[:, 1], b[:, 0])[2]).reshape(count, count) / 1000


@pytest.mark.parametrize("count", [1, 2, 3, 60])
def test_distances_are_those_of_all_pairs(count: int) -> None:
    random = np.random.default_rng(count)
    coords = random.uniform((-90, -180), (90, 180), (count, 2))
    splits = random.choice(["train", "val", "test", "unused"], count)
    pairs = all_pairs_km(coords)
    np.fill_diagonal(pairs, np.inf)
    train = splits == "train"
    expected = pairs[:, train].min(axis=1) if train.any() else np.full(len(coords), np.inf)
    nearest = compute_nearest_training_km(coords, splits)
    np.testing.assert_allclose(nearest, expected, atol=1e-3)  # a metre: antipodes


def ladder(metres: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Test places so far north of training places that lie 100 km apart."""
    coords, splits = [], []
    for number, north in enumerate(metres):
        lat, lon = 40.0, float(number)
        coords.append((lat, lon))
        splits.append("train")
        coords.append((lat + math.degrees(north / 1000 / EARTH_RADIUS_KM), lon))
        splits.append("test")
    return np.array(coords), np.array(splits)


def test_counts_within_distances_and_quartiles() -> None:
    metres = [10, 49, 51, 499, 501, 4999, 5001, 20000]
    result = audit_split(*ladder(metres))
    assert result["test"]["places"] == 8
    assert result["test"]["within_m"] == {"50": 2, "500": 4, "5000": 6}
    quartiles = result["test"]["nearest_training_km"]
    np.testing.assert_allclose(list(quartiles.values()), np.percentile(metres, (25, 50, 75)) / 1000, atol=2e-4)
    assert result["train"]["within_m"]["5000"] == 0  # of another training place
    assert "val" not in result


def test_it_warns_where_a_test_would_flatter_and_only_there() -> None:
    assert audit_split(*ladder([10000.0] * 60))["warnings"] == []
    assert audit_split(*ladder([10000.0] * 97 + [20.0]))["warnings"] != []
    [warning] = audit_split(*ladder([10000.0] * 90 + [20.0] * 10))["warnings"]
    assert warning.startswith("10 of 100 test places (10%) lie within 50 m of a training place")
    assert "split=blocks" in warning
    [warning] = audit_split(*ladder([10000.0] * 80 + [300.0] * 20))["warnings"]
    assert warning.startswith("20 of 100 test places (20%) lie within 500 m of a training place")
    assert audit_split(*ladder([10000.0] * 91 + [300.0] * 9))["warnings"] == []


def test_without_test_places_there_is_nothing_to_warn_of() -> None:
    result = audit_split(np.array([[45.0, 16.0], [45.0, 17.0]]), np.array(["train", "train"]))
    assert set(result) == {"train", "warnings"}
    assert result["warnings"] == []
