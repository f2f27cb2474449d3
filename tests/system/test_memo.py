"""In-process cache."""

from __future__ import annotations

from geoguesser.system.memo import Memo


def test_values_are_made_once_per_key():
    memo, calls = Memo(), []

    def make() -> list[int]:
        calls.append(1)
        return [len(calls)]

    first = memo.get_or_make("data", {"a": 1, "b": [2]}, make)
    assert memo.get_or_make("data", {"b": [2], "a": 1}, make) is first
    assert memo.get_or_make("data", {"a": 1, "b": [3]}, make) == [2]
    assert memo.get_or_make("region", {"a": 1, "b": [2]}, make) == [3]


def test_only_the_last_value_of_a_kind_stays_and_it_is_freed_before_the_next_is_made():
    memo = Memo()
    memo.put("data", 1, "old")
    assert memo.get_or_make("data", 2, lambda: str(memo.get("data", 1))) == "None"
    assert memo.get("data", 1) is None
