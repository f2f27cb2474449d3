"""Counts, numbers and lists as text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from geoguesser.system import text

TENTHS = "{:.1f}".format


@pytest.mark.parametrize(
    ("function", "cases"),
    [
        (text.join_words, {((),): "", (("a",),): "a", (("a", "b"),): "a and b", (("a", "b", "c"),): "a, b and c"}),
        (text.format_count, {(0, "place"): "0 places", (1, "cell"): "1 cell", (26_417, "cell"): "26,417 cells"}),
        (text.format_number, {(0.001,): "0.001", (2e-5,): "2e-05", (40.0,): "40", (12_000.0,): "12,000"}),
        (text.format_percent, {(0.0,): "0 %", (0.0014,): "0.14 %", (0.014,): "1.4 %", (1.0,): "100 %"}),
        (text.format_part, {(0, 9): "0%", (1, 1000): "<1%", (1, 8): "12%", (9, 9): "100%"}),
        (text.format_confidence, {(0.95,): "95 %", (0.995,): "99.5 %"}),
        (text.format_bytes, {(8_400,): "8 kB", (450_000_000,): "450 MB", (4_900_000_000,): "4.9 GB"}),
        (text.format_km, {(0.0,): "0.00 km", (4.21,): "4.2 km", (63.4,): "63 km", (1234.5,): "1,234 km"}),
        (text.format_m, {(500,): "500 m", (5000,): "5 km"}),
        (text.shorten, {("a\nb", 5): "a b", ("x" * 50, 10): "x" * 9 + "…"}),
        (text.format_limits, {(None, 2.0, TENTHS): "", (1.0, None, TENTHS): "", (-1.0, 2, TENTHS): "-1.0 to 2.0"}),
        (text.format_interval, {(1.0, 0.5, 2.0, TENTHS): "1.0 (0.5 to 2.0)", (1.0, None, None, TENTHS): "1.0"}),
    ],
)  # fmt: skip
def test_values_are_formatted(function: Callable[..., str], cases: dict[tuple[Any, ...], str]) -> None:
    assert {values: function(*values) for values in cases} == cases
