"""Cost table of the remaining requests, against sums by hand."""

from __future__ import annotations

from geoguesser.collecting.pipeline.status import format_cost
from geoguesser.collecting.providers.http_settings import RequestKind


def test_the_table_lines_up_and_ends_with_the_sum() -> None:
    kinds = {"metadata": RequestKind(0, 1.0), "image": RequestKind(7000, 1.0)}
    lines = format_cost({"metadata": 10_000, "image": 40_000}, kinds)
    assert len({len(line) for line in lines}) == 1
    assert [line.split() for line in lines[1:]] == [
        ["metadata", "10,000", "0", "0.00"],
        ["image", "40,000", "7", "280.00"],
        ["total", "50,000", "280.00"],
    ]


def test_an_amount_below_one_cent_is_not_shown_as_zero() -> None:
    assert format_cost({"image": 1}, {"image": RequestKind(7000, 1.0)})[1].endswith("< 0.01")
