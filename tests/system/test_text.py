"""Counts in words."""

from __future__ import annotations

import pytest

from geoguesser.system.text import format_count


@pytest.mark.parametrize(
    ("count", "said"), [(0, "0 places"), (1, "1 place"), (2, "2 places"), (26_417, "26,417 places")]
)
def test_one_is_no_plural_and_thousands_are_parted(count: int, said: str) -> None:
    assert format_count(count, "place") == said
