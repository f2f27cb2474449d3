"""Errors: which kind each is, and what its message says: key, rule, value, remedy."""

from __future__ import annotations

import math
from typing import Any

import pytest

from geoguesser import errors
from geoguesser.errors import (
    ConfigError,
    GeoguesserError,
    check_bool,
    check_choice,
    check_int,
    check_mapping,
    check_number,
)


@pytest.mark.parametrize(
    ("kind", "built_in"),
    [
        (errors.ConfigError, ValueError),
        (errors.DataError, ValueError),
        (errors.MissingFileError, FileNotFoundError),
        (errors.RegionError, ValueError),
        (errors.WeightsError, RuntimeError),
        (errors.CheckpointError, RuntimeError),
    ],
)
def test_each_kind_is_ours_and_also_a_built_ins(kind: type[GeoguesserError], built_in: type[Exception]) -> None:
    error = kind.at("data.csv row 7", "must have a latitude", found="x", remedy="Delete the row.")
    assert type(error) is kind
    assert isinstance(error, GeoguesserError)
    assert isinstance(error, built_in)
    assert str(error) == "data.csv row 7 must have a latitude, got 'x'. Delete the row."


def test_a_message_leaves_out_what_is_not_given() -> None:
    assert str(ConfigError.at("seed", "must be given")) == "seed must be given."
    assert str(ConfigError.at("seed", "must be given", remedy="Name one.")) == "seed must be given. Name one."
    assert str(ConfigError.at("seed", "must be given", found=None)) == "seed must be given, got None."
    assert str(ConfigError.at("seed", "must be given", found="")) == "seed must be given, got ''."


@pytest.mark.parametrize("value", [1, 2, 60, 10**12])
def test_check_int_returns_positive_integers(value: int) -> None:
    assert check_int("grid.size", value, low=1) == value


@pytest.mark.parametrize("value", ["abc", "60", 0, -1, True, False, 2.5, 60.0, None, [60], math.nan])
def test_check_int_refuses_all_else_and_says_what_it_got(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_int("grid.size", value, low=1)
    assert str(caught.value) == f"grid.size must be a positive integer, got {value!r}."


def test_check_int_holds_both_limits() -> None:
    assert [check_int("n", value, low=0, high=3) for value in (0, 3)] == [0, 3]
    for value in (-1, 4):
        with pytest.raises(ConfigError, match=f"^n must be an integer from 0 to 3, got {value}\\.$"):
            check_int("n", value, low=0, high=3)
    with pytest.raises(ConfigError, match=r"^n must be an integer from 2 up, got 1\.$"):
        check_int("n", 1, low=2)


def test_check_number_returns_floats() -> None:
    got = check_number("decoder.temperature", 2, low=0.0, open_low=True)
    assert got == 2.0
    assert type(got) is float
    assert [check_number("share", value, low=0.0, high=1.0) for value in (0, 0.5, 1)] == [0.0, 0.5, 1.0]
    assert check_number("any", -1e300) == -1e300


@pytest.mark.parametrize("value", [0, -1, 0.0, "1", True, None, math.nan, math.inf])
def test_check_number_refuses_what_is_not_above_an_open_limit(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_number("grid.spacing_km", value, low=0.0, open_low=True)
    assert str(caught.value) == f"grid.spacing_km must be a number above 0, got {value!r}."


@pytest.mark.parametrize("value", [-0.001, 1.001, math.nan, -math.inf, "0.5", False])
def test_check_number_refuses_what_is_outside_closed_limits(value: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        check_number("split.share", value, low=0.0, high=1.0)
    assert str(caught.value) == f"split.share must be a number from 0 to 1, got {value!r}."


def test_check_choice_names_the_choices() -> None:
    assert check_choice("grid.point", "weighted", ("centroid", "weighted")) == "weighted"
    for value in ("middle", None, 1, ["weighted"], "Weighted"):
        with pytest.raises(ConfigError) as caught:
            check_choice("grid.point", value, ("centroid", "weighted"))
        assert str(caught.value) == f"grid.point must be one of centroid, weighted, got {value!r}."


def test_check_mapping_wants_its_keys_and_no_other() -> None:
    assert check_mapping("k", {"a": 1, "b": None}, ("b", "a")) == {"a": 1, "b": None}
    for value, found in (({"a": 1}, "['a']"), ({"a": 1, "b": 2, "c": 3}, "['a', 'b', 'c']"), (3, "3")):
        with pytest.raises(ConfigError) as caught:
            check_mapping("k", value, ("a", "b"))
        assert str(caught.value) == f"k must have the keys a, b, and no other, got {found}."


def test_check_bool_takes_booleans_alone() -> None:
    assert check_bool("k", True) is True
    assert check_bool("k", False) is False
    for value in ("true", 1, 0, None):
        with pytest.raises(ConfigError) as caught:
            check_bool("k", value)
        assert str(caught.value) == f"k must be true or false, got {value!r}."
