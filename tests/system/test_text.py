"""Counts, numbers and lists as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from geoguesser.system import text

CASES: list[tuple[Callable[..., str], Any, str]] = [
    (text.join_words, [], ""),
    (text.join_words, ["a"], "a"),
    (text.join_words, ["a", "b"], "a and b"),
    (text.join_words, ["a", "b", "c"], "a, b and c"),
    (text.format_percent, 0.0, "0 %"),
    (text.format_percent, 0.0014, "0.14 %"),
    (text.format_percent, 0.014, "1.4 %"),
    (text.format_percent, 0.12, "12 %"),
    (text.format_bytes, 8_400, "8 kB"),
    (text.format_bytes, 450_000_000, "450 MB"),
    (text.format_bytes, 4_900_000_000, "4.9 GB"),
    (text.format_number, 0.001, "0.001"),
    (text.format_number, 2e-5, "2e-05"),
    (text.format_number, 12_000.0, "12,000"),
    (text.format_confidence, 0.95, "95 %"),
    (text.format_confidence, 0.995, "99.5 %"),
    (text.format_km, 0.42, "0.42 km"),
    (text.format_km, 4.21, "4.2 km"),
    (text.format_km, 63.4, "63 km"),
    (text.format_km, 1234.5, "1,234 km"),
]


@pytest.mark.parametrize(("function", "value", "expected"), CASES)
def test_values_as_text(function: Callable[..., str], value: Any, expected: str) -> None:
    assert function(value) == expected


def test_limits_and_intervals() -> None:
    limits = [text.format_limits(*pair, "{:.1f}".format) for pair in ((None, 2.0), (1.0, None), (-1.0, 2.0))]
    assert limits == ["", "", "-1.0 to 2.0"]
    assert text.format_interval(1.0, 0.5, 2.0, "{:.1f}".format) == "1.0 (0.5 to 2.0)"
    assert text.format_interval(1.0, None, None, "{:.1f}".format) == "1.0"


def test_counts_have_a_plural_and_a_separator_of_thousands() -> None:
    counts = [text.format_count(count, "place") for count in (0, 1, 26_417)]
    assert counts == ["0 places", "1 place", "26,417 places"]


def test_long_text_is_cut() -> None:
    assert text.shorten("a\nb", 5) == "a b"
    assert text.shorten("x" * 50, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("count", "total", "expected"), [(0, 9, "0%"), (1, 1000, "<1%"), (1, 8, "12%"), (9, 9, "100%")]
)
def test_parts_of_a_count_are_rounded_but_never_to_zero(count: int, total: int, expected: str) -> None:
    assert text.format_part(count, total) == expected
