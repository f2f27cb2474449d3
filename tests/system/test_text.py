"""Counts, numbers and lists as text."""

from __future__ import annotations

import pytest

from geoguesser.system import text


@pytest.mark.parametrize(
    ("words", "expected"), [([], ""), (["a"], "a"), (["a", "b"], "a and b"), (["a", "b", "c"], "a, b and c")]
)
def test_lists_end_with_and(words: list[str], expected: str) -> None:
    assert text.join_words(words) == expected


@pytest.mark.parametrize(
    ("share", "expected"), [(0.0, "0 %"), (0.0014, "0.14 %"), (0.014, "1.4 %"), (0.12, "12 %"), (1.0, "100 %")]
)
def test_small_percentages_have_more_digits(share: float, expected: str) -> None:
    assert text.format_percent(share) == expected


@pytest.mark.parametrize(
    ("low", "high", "expected"), [(None, None, ""), (None, 2.0, ""), (1.0, None, ""), (-1.0, 2.0, "-1.0 to 2.0")]
)
def test_limits_are_empty_without_an_interval(low: float | None, high: float | None, expected: str) -> None:
    assert text.format_limits(low, high, "{:.1f}".format) == expected


def test_units_fit_the_size() -> None:
    assert [text.format_bytes(count) for count in (8_400, 450_000_000, 4_900_000_000)] == [
        "8 kB",
        "450 MB",
        "4.9 GB",
    ]
    assert [text.format_number(value) for value in (0.001, 2e-5, 40.0, 12_000.0)] == [
        "0.001",
        "2e-05",
        "40",
        "12,000",
    ]
    assert [text.format_confidence(value) for value in (0.95, 0.995)] == ["95 %", "99.5 %"]


def test_intervals_stand_behind_their_value() -> None:
    assert text.format_interval(1.0, 0.5, 2.0, "{:.1f}".format) == "1.0 (0.5 to 2.0)"
    assert text.format_interval(1.0, None, None, "{:.1f}".format) == "1.0"


@pytest.mark.parametrize(
    ("count", "expected"), [(0, "0 places"), (1, "1 place"), (2, "2 places"), (26_417, "26,417 places")]
)
def test_counts_have_a_plural_and_a_separator_of_thousands(count: int, expected: str) -> None:
    assert text.format_count(count, "place") == expected


@pytest.mark.parametrize(
    ("value_km", "expected"),
    [(0.0, "0.00 km"), (0.42, "0.42 km"), (4.21, "4.2 km"), (63.4, "63 km"), (1234.5, "1,234 km")],
)
def test_km_have_about_three_digits(value_km: float, expected: str) -> None:
    assert text.format_km(value_km) == expected


def test_long_text_is_cut() -> None:
    assert text.shorten("a\nb", 5) == "a b"
    assert text.shorten("x" * 50, 10) == "x" * 9 + "…"


@pytest.mark.parametrize(
    ("count", "total", "expected"), [(0, 9, "0%"), (1, 1000, "<1%"), (1, 8, "12%"), (9, 9, "100%")]
)
def test_parts_of_a_count_are_rounded_but_never_to_zero(count: int, total: int, expected: str) -> None:
    assert text.format_part(count, total) == expected
