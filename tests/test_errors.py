"""Errors: which kind each is, and what its message says: key, rule, value, remedy."""

from __future__ import annotations

import math
from collections.abc import Callable
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


def test_values_that_keep_a_rule_are_returned() -> None:
    assert [check_int("n", value, low=1) for value in (1, 60, 10**12)] == [1, 60, 10**12]
    assert [check_int("n", value, low=0, high=3) for value in (0, 3)] == [0, 3]
    assert [check_number("x", value, low=0.0, high=1.0) for value in (0, 0.5, 1)] == [0.0, 0.5, 1.0]
    assert type(check_number("x", 2, low=0.0, open_low=True)) is float
    assert check_number("x", -1e300) == -1e300
    assert check_choice("point", "weighted", ("centroid", "weighted")) == "weighted"
    assert check_mapping("k", {"a": 1, "b": None}, ("b", "a")) == {"a": 1, "b": None}
    assert [check_bool("k", value) for value in (True, False)] == [True, False]


NOT_ABOVE_0 = [0, -1, 0.0, "1", True, None, math.nan, math.inf]
NOT_A_SHARE = [-0.001, 1.001, math.nan, -math.inf, "0.5", False]
NOT_A_CHOICE = ["middle", None, 1, ["weighted"], "Weighted"]
CHOICES = {"choices": ("centroid", "weighted")}


@pytest.mark.parametrize(
    ("check", "limits", "values", "rule"),
    [
        (check_int, {"low": 1}, ["a", "60", 0, -1, True, 2.5, 60.0, None, [60], math.nan], "a positive integer"),
        (check_int, {"low": 0, "high": 3}, [-1, 4], "an integer from 0 to 3"),
        (check_int, {"low": 2}, [1], "an integer from 2 up"),
        (check_number, {"low": 0.0, "open_low": True}, NOT_ABOVE_0, "a number above 0"),
        (check_number, {"low": 0.0, "high": 1.0}, NOT_A_SHARE, "a number from 0 to 1"),
        (check_choice, CHOICES, NOT_A_CHOICE, "one of centroid, weighted"),
        (check_bool, {}, ["true", 1, 0, None], "true or false"),
    ],
)
def test_values_that_break_a_rule_are_refused_with_it(
    check: Callable[..., Any], limits: dict[str, Any], values: list[Any], rule: str
) -> None:
    for value in values:
        with pytest.raises(ConfigError) as caught:
            check("grid.size", value, **limits)
        assert str(caught.value) == f"grid.size must be {rule}, got {value!r}."


@pytest.mark.parametrize(
    ("value", "found"),
    [({"a": 1}, "['a']"), ({"a": 1, "b": 2, "c": 3}, "['a', 'b', 'c']"), (3, "3")],
)
def test_check_mapping_wants_its_keys_and_no_other(value: Any, found: str) -> None:
    with pytest.raises(ConfigError) as caught:
        check_mapping("k", value, ("a", "b"))
    assert str(caught.value) == f"k must have the keys a, b, and no other, got {found}."
