"""What runs of one process share."""

from __future__ import annotations

from geoguesser.system.memo import Kept


def test_it_is_made_once_for_all_that_it_depends_on():
    kept, made = Kept(), []

    def make() -> list[int]:
        made.append(1)
        return [len(made)]

    first = kept.get("data", {"a": 1, "b": [2]}, make)
    assert kept.get("data", {"b": [2], "a": 1}, make) is first
    assert kept.get("data", {"a": 1, "b": [3]}, make) == [2]
    assert kept.get("region", {"a": 1, "b": [2]}, make) == [3]


def test_of_a_kind_only_the_last_one_stays_and_it_goes_before_the_next_is_made():
    kept = Kept()
    kept.keep("data", 1, "old")
    assert kept.get("data", 2, lambda: str(kept.find("data", 1))) == "None"
    assert kept.find("data", 1) is None
