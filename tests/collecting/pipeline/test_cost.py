"""Cost estimates against sums by hand."""

from __future__ import annotations

import pytest

from geoguesser.collecting.pipeline.cost import estimate_cost, format_cost, format_usd, sum_usd
from geoguesser.errors import ConfigError

PRICES = {"metadata": 0.0, "image": 7.0}


def test_what_ten_thousand_places_cost() -> None:
    items = estimate_cost({"metadata": 10_000, "image": 40_000}, PRICES)
    assert [item.usd for item in items] == [0.0, 280.0]
    assert sum_usd(items) == 280.0


def test_free_requests_are_taken_off_and_never_paid_back() -> None:
    items = estimate_cost({"metadata": 5, "image": 12_000}, PRICES, {"image": 10_000, "metadata": 100})
    assert [(item.free, item.usd) for item in items] == [(5, 0.0), (10_000, 14.0)]


def test_the_table_lines_up_and_ends_with_the_sum() -> None:
    lines = format_cost(estimate_cost({"metadata": 10_000, "image": 40_000}, PRICES, {"image": 1000}))
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["kind", "requests", "free", "USD", "per", "1,000", "USD"]
    assert lines[2].split() == ["image", "40,000", "1,000", "7", "273.00"]
    assert lines[3].split() == ["total", "50,000", "273.00"]


def test_less_than_a_cent_is_not_nothing() -> None:
    assert format_usd(0.007) == "< 0.01"
    assert format_usd(0.0) == "0.00"
    assert format_usd(1234.5) == "1,234.50"


@pytest.mark.parametrize(
    ("requests", "prices", "free", "message"),
    [
        ({"image": 1}, {"metadata": 0.0}, None, r"^provider\.prices\.image must be given\. Give it in US dollars"),
        ({"image": 1}, {"image": -1.0}, None, r"^provider\.prices\.image must be a number from 0, got -1\.0"),
        ({"image": 1}, PRICES, {"tiles": 3}, r"^provider\.free\.tiles must be one of the kinds metadata, image"),
        ({"image": -1}, PRICES, None, r"^requests of kind image must be an integer from 0 up, got -1"),
    ],
)
def test_mistakes_are_named(requests: dict, prices: dict, free: dict | None, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        estimate_cost(requests, prices, free)
