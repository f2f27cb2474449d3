"""Splits: by hash, column, folders and folds; shares, stability, and what is said where one is empty."""

from __future__ import annotations

import hashlib
import re
import uuid as uuids
from typing import Any

import numpy as np
import pandas as pd
import pytest

from geoguesser.data.splits import (
    SPLIT_NAMES,
    ColumnSplit,
    FolderSplit,
    KFoldSplit,
    RandomSplit,
    Split,
    check_calibration,
    draw_calibration_places,
    hash_share,
    thin_training,
)
from geoguesser.errors import ConfigError, DataError

SHARES = [0.8, 0.1, 0.1]
MANY = [str(uuids.UUID(int=at * 7919)) for at in range(10_000)]


def make_table(ids: list[str], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"uuid": ids, **columns})


def by_hand(one: str, salt: str) -> float:
    """The hash of `hash_share`, with Python's whole numbers alone."""
    digest = hashlib.blake2b(salt.encode() + b":" + one.encode(), digest_size=8).hexdigest()
    return int(digest, 16) // 2**11 / 2**53


def side_by_hand(one: str, seed: int) -> str:
    """Returns the split of an id by `SHARES`."""
    share = by_hand(one, f"split{seed}")
    return "train" if share < 0.8 else "val" if share < 0.9 else "test"


# The hash


def test_the_hash_is_the_same_for_ever() -> None:
    """A change here would move places between the splits of published results."""
    expected = [0.0960166822387627, 0.9125201337943426, 0.9514142524701212]
    np.testing.assert_allclose(hash_share(["a", "0001", "Šibenik"], "split0"), expected, rtol=1e-12)


# Random


def test_a_side_is_a_stretch_of_the_hash() -> None:
    splits = RandomSplit(shares=SHARES, seed=4).assign(make_table(MANY[:500]))
    assert splits.tolist() == [side_by_hand(one, 4) for one in MANY[:500]]


@pytest.mark.parametrize("split", [RandomSplit(shares=[0.4, 0.3, 0.3]), KFoldSplit(folds=3, val_share=0.4)])
def test_a_place_keeps_its_side(split: Split) -> None:
    """Whatever the rows' order, and whichever other places there are."""
    order = np.random.default_rng(0).permutation(60)[:40]
    everyone = split.assign(make_table(MANY[:60]))
    some = split.assign(make_table([MANY[at] for at in order]))
    assert some.tolist() == everyone[order].tolist()


def test_shares_may_miss_one_by_rounding() -> None:
    assert set(RandomSplit(shares=[0.7, 0.15, 0.15 + 1e-9]).assign(make_table(MANY))) == set(SPLIT_NAMES)


# Empty splits


@pytest.mark.parametrize("count", [3, 4, 6, 10])
def test_an_empty_split_is_refused_with_a_seed_that_works(count: int) -> None:
    ids = [f"place {at}" for at in range(count)]
    split_by_seed = {seed: [side_by_hand(one, seed) for one in ids] for seed in range(20)}
    seed, splits = next((seed, splits) for seed, splits in split_by_seed.items() if len(set(splits)) < 3)
    empty = " and ".join(name for name in SPLIT_NAMES if name not in splits)
    counts = ", ".join(f"{name} {splits.count(name)}" for name in SPLIT_NAMES)
    message = rf"but {empty} would be \({counts}\)\. .*: split\.seed=(\d+) fills all three\."
    with pytest.raises(DataError, match=message) as caught:
        RandomSplit(shares=SHARES, seed=seed).assign(make_table(ids))
    suggested = re.search(message, str(caught.value))[1]
    assert set(RandomSplit(shares=SHARES, seed=int(suggested)).assign(make_table(ids))) == set(SPLIT_NAMES)


def test_where_no_seed_helps_the_message_says_so() -> None:
    message = r"val and test would be \(train 3, val 0, test 0\)\. Add places, or choose other split\.shares"
    with pytest.raises(DataError, match=message):
        RandomSplit(shares=[1 - 2e-6, 1e-6, 1e-6]).assign(make_table(["a", "b", "c"]))


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize(
    "split",
    [RandomSplit(shares=SHARES), ColumnSplit(), FolderSplit(), KFoldSplit()],
    ids=lambda one: type(one).__name__,
)
def test_fewer_than_three_places(split: Split, count: int) -> None:
    with pytest.raises(DataError, match=f"^data must hold at least 3 places.*, got {count}"):
        split.assign(make_table(["a", "b"][:count], split="train", folder_split="train"))


# By column and by folders

WORDS = ["train", "Training", " TRAIN ", "val", "valid", "Validation", "test", "Testing"]
MEANT = ["train", "train", "train", "val", "val", "val", "test", "test"]


@pytest.mark.parametrize(
    ("split", "column"),
    [(ColumnSplit(), "split"), (ColumnSplit(column="part"), "part"), (FolderSplit(), "folder_split")],
)
def test_columns_and_folders_are_taken_at_their_word(split: Split, column: str) -> None:
    assert split.assign(make_table(MANY[:8], **{column: WORDS})).tolist() == MEANT


def test_a_missing_column() -> None:
    table = make_table(["a", "b", "c"], split="train", row="data.csv row 2", root="r")
    with pytest.raises(DataError, match=r"^split\.column=part must be a column .*Columns are: uuid, split\.$"):
        ColumnSplit(column="part").assign(table)


@pytest.mark.parametrize(("word", "shown"), [("dev", "'dev'"), ("", "''"), ("0", "'0'"), (None, "'?(None|nan)'?")])
def test_an_unknown_word(word: str | None, shown: str) -> None:
    """A column that one root of several lacks is a missing word too."""
    table = make_table(["a", "b", "c", "d"], split=["train", word, "val", word])
    message = rf"^place b: column split must say train, val or test \(2 places do not\), got {shown}\."
    with pytest.raises(DataError, match=message):
        ColumnSplit().assign(table)


def test_places_outside_the_folders() -> None:
    table = make_table(["a", "b", "c", "d"], folder_split=["train", "", "val", ""])
    with pytest.raises(DataError, match=r"^place b must lie in a folder train, val or test \(2 places do not\)"):
        FolderSplit(val_share=0.1).assign(table)


@pytest.mark.parametrize(("split", "column"), [(ColumnSplit(), "split"), (FolderSplit(), "folder_split")])
def test_a_recorded_split_without_val(split: Split, column: str) -> None:
    table = make_table(["a", "b", "c"], **{column: ["train", "train", "test"]})
    with pytest.raises(DataError, match=r"val would be \(train 2, val 0, test 1\)\. .*split\.val_share=0\.1"):
        split.assign(table)


@pytest.mark.parametrize(("kind", "column"), [(ColumnSplit, "split"), (FolderSplit, "folder_split")])
def test_val_share_draws_validation_from_training_alone(kind: Any, column: str) -> None:
    words = ["test" if at % 4 == 0 else "train" for at in range(len(MANY))]
    splits = kind(val_share=0.2, seed=5).assign(make_table(MANY, **{column: words}))
    drawn = np.array([by_hand(one, "val5") < 0.2 for one in MANY])
    expected = np.where(np.array(words) == "test", "test", np.where(drawn, "val", "train"))
    assert splits.tolist() == expected.tolist()


def test_val_share_leaves_a_named_val_alone() -> None:
    words = [SPLIT_NAMES[at % 3] for at in range(300)]
    assert ColumnSplit(val_share=0.5).assign(make_table(MANY[:300], split=words)).tolist() == words


# Folds


@pytest.mark.parametrize("folds", [2, 7])
def test_every_place_is_tested_in_exactly_one_fold(folds: int) -> None:
    table = make_table(MANY[:400])
    runs = [KFoldSplit(folds=folds, fold=fold, seed=3).assign(table) for fold in range(folds)]
    own = [int(by_hand(one, "fold3") * folds) for one in MANY[:400]]
    for fold, splits in enumerate(runs):
        assert (splits == "test").tolist() == [one == fold for one in own]


def test_folds_are_of_a_size_and_val_is_a_share_of_the_rest() -> None:
    for fold in range(5):
        splits = KFoldSplit(folds=5, fold=fold, val_share=0.25).assign(make_table(MANY))
        np.testing.assert_allclose([(splits == name).mean() for name in SPLIT_NAMES], [0.6, 0.2, 0.2], atol=0.015)


def test_an_empty_fold_is_refused() -> None:
    with pytest.raises(DataError, match=r"test .*Choose another split\.seed, or fewer split\.folds"):
        KFoldSplit(folds=1000, fold=0).assign(make_table(["a", "b", "c"]))


# Fractions


@pytest.mark.parametrize("fraction", [0.05, 0.5, 1.0])
def test_fractions_are_nested(fraction: float) -> None:
    kept = thin_training(MANY[:500], fraction, 7)
    assert kept.tolist() == [by_hand(one, "fraction7") < fraction for one in MANY[:500]]


def test_a_fraction_must_leave_a_place() -> None:
    with pytest.raises(DataError, match=r"^data\.fraction must leave a training place of 3, got 1e-09"):
        thin_training(["a", "b", "c"], 1e-9, 0)


# The calibration part of validation


def test_a_part_is_held_out_by_hash_alone() -> None:
    taken = draw_calibration_places(MANY, 0.33, 20, 4)
    assert taken.tolist() == [by_hand(one, "calibration4") < 0.33 for one in MANY]


def test_none_are_held_out_where_either_part_would_be_small() -> None:
    held = int(draw_calibration_places(MANY[:60], 0.33, 1, 0).sum())
    assert 1 < held < 30
    assert draw_calibration_places(MANY[:60], 0.33, held, 0).sum() == held
    assert draw_calibration_places(MANY[:60], 0.33, held + 1, 0).sum() == 0
    assert draw_calibration_places(MANY[:60], 0.9, 20, 0).sum() == 0
    assert draw_calibration_places(MANY[:60], 0.0, 1, 0).sum() == 0
    assert draw_calibration_places([], 0.33, 1, 0).shape == (0,)


# Values


@pytest.mark.parametrize(
    ("kind", "key", "rule", "values"),
    [
        (RandomSplit, "shares", "three numbers that sum to 1", [[0.8, 0.2], [0.8, 0.1, 0.2], 0.8, None]),
        (RandomSplit, "shares", "a number above 0 to 1", [[80, 10, 10], [0.9, 0.1, 0.0], [0.8, "0.1", 0.1]]),
        (RandomSplit, "seed", "an integer from 0 up", [-1, 1.5, True, "0", None]),
        (ColumnSplit, "val_share", "a number from 0 to 0.9", [-0.1, 0.95, True, "0.1", float("nan")]),
        (KFoldSplit, "folds", "an integer from 2 up", [1]),
        (KFoldSplit, "fold", "an integer from 0 to 4", [-1, 5]),
        (KFoldSplit, "val_share", "a number above 0 to 0.9", [0.0, 1]),
    ],
)
def test_values_that_are_none(kind: Any, key: str, rule: str, values: list[Any]) -> None:
    table = make_table(MANY[:10], split=["train"] * 8 + ["test"] * 2)
    required = {"shares": SHARES} if kind is RandomSplit else {}
    for value in values:
        with pytest.raises(ConfigError, match=f"^split.{key} must be {rule}, got"):
            kind(**required | {key: value}).assign(table)


def test_fractions_that_are_none() -> None:
    for fraction in (0.0, -0.5, 1.01, True, "1"):
        with pytest.raises(ConfigError, match=r"^data\.fraction must be a number above 0 to 1, got"):
            thin_training(MANY[:10], fraction, 0)
    for fewest in (0, 2.5, None):
        with pytest.raises(ConfigError, match=r"^calibration\.min_places must be a positive integer, got"):
            check_calibration(0.33, fewest)
