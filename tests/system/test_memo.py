"""What runs of one process share."""

from __future__ import annotations

from geoguesser.system.memo import Memo


def test_it_is_made_once_for_all_that_it_depends_on():
    memo, made = Memo(), []

    def make() -> list[int]:
        made.append(1)
        return [len(made)]

    first = memo.get_or_make("data", {"a": 1, "b": [2]}, make)
    assert memo.get_or_make("data", {"b": [2], "a": 1}, make) is first
    assert memo.get_or_make("data", {"a": 1, "b": [3]}, make) == [2]
    assert memo.get_or_make("region", {"a": 1, "b": [2]}, make) == [3]


def test_of_a_kind_only_the_last_one_stays_and_it_goes_before_the_next_is_made():
    memo = Memo()
    memo.put("data", 1, "old")
    assert memo.get_or_make("data", 2, lambda: str(memo.get("data", 1))) == "None"
    assert memo.get("data", 1) is None
