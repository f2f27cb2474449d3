"""Splits: by hash, column, folders and folds; shares, stability, and what is said where one is empty."""

from __future__ import annotations

import hashlib
import re
import uuid as uuids
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import stats

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
some_ids = st.lists(
    st.text(st.characters(max_codepoint=0x17F), min_size=1, max_size=12), unique=True, min_size=1, max_size=40
)


def make_table(ids: list[str], **columns: Any) -> pd.DataFrame:
    return pd.DataFrame({"uuid": ids, **columns})


def sides(split: Split, ids: list[str]) -> dict[str, str]:
    return dict(zip(ids, split.assign(make_table(ids)).tolist(), strict=True))


def by_hand(one: str, salt: str) -> float:
    """The hash of `hash_share`, with Python's whole numbers alone."""
    digest = hashlib.blake2b(salt.encode() + b":" + one.encode(), digest_size=8).hexdigest()
    return int(digest, 16) // 2**11 / 2**53


# The hash


@settings(max_examples=50, deadline=None)
@given(ids=some_ids, salt=st.sampled_from(["split0", "fold3", "fraction12"]))
def test_the_hash_is_that_of_hashlib(ids: list[str], salt: str) -> None:
    shares = hash_share(ids, salt)
    assert shares.tolist() == [by_hand(one, salt) for one in ids]
    assert ((shares >= 0) & (shares < 1)).all()


def test_the_hash_is_the_same_for_ever() -> None:
    """A change here would move places between the splits of published results."""
    np.testing.assert_allclose(
        hash_share(["a", "0001", "Šibenik"], "split0"),
        [0.0960166822387627, 0.9125201337943426, 0.9514142524701212],
        rtol=1e-12,
    )


@pytest.mark.parametrize("salt", ["split0", "split1", "val0", "fold0", "fraction0"])
def test_the_hash_is_uniform(salt: str) -> None:
    assert stats.kstest(hash_share(MANY, salt), "uniform").pvalue > 1e-3


def test_salts_are_independent() -> None:
    salts = ["split0", "split1", "val0", "fold0", "fraction0"]
    shares = np.stack([hash_share(MANY, salt) for salt in salts])
    off_diagonal = np.corrcoef(shares)[~np.eye(len(salts), dtype=bool)]
    assert np.abs(off_diagonal).max() < 0.04  # four standard errors of 10,000
    squares, *_ = np.histogram2d(shares[0], shares[1], bins=10, range=((0, 1), (0, 1)))
    assert stats.chisquare(squares.ravel()).pvalue > 1e-3


# Random


@pytest.mark.parametrize("shares", [SHARES, [0.7, 0.2, 0.1], [0.34, 0.33, 0.33], [0.98, 0.01, 0.01]])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_shares_are_kept_within_chance(shares: list[float], seed: int) -> None:
    splits = RandomSplit(shares=shares, seed=seed).assign(make_table(MANY))
    np.testing.assert_allclose([(splits == name).mean() for name in SPLIT_NAMES], shares, atol=0.015)


def test_a_side_is_a_stretch_of_the_hash() -> None:
    for one, side in sides(RandomSplit(shares=SHARES, seed=4), MANY[:500]).items():
        share = by_hand(one, "split4")
        assert side == ("train" if share < 0.8 else "val" if share < 0.9 else "test")


@settings(max_examples=50, deadline=None)
@given(order=st.permutations(range(60)), kept=st.integers(30, 60), seed=st.integers(0, 3))
def test_a_place_keeps_its_side(order: list[int], kept: int, seed: int) -> None:
    """Whatever the rows' order, and whichever other places there are."""
    for split in (RandomSplit(shares=[0.4, 0.3, 0.3], seed=seed), KFoldSplit(folds=3, val_share=0.4, seed=seed)):
        everyone = sides(split, MANY[:60])
        some = [MANY[at] for at in order[:kept]]
        assert sides(split, some) == {one: everyone[one] for one in some}


def test_another_seed_is_another_split() -> None:
    first, second = (RandomSplit(shares=SHARES, seed=seed).assign(make_table(MANY)) for seed in (0, 1))
    assert (first == second).mean() == pytest.approx(0.8**2 + 2 * 0.1**2, abs=0.02)  # as often as by chance


@pytest.mark.parametrize(
    ("shares", "message"),
    [
        ([0.8, 0.2], "must be three numbers that sum to 1, got [0.8, 0.2]."),
        ([0.25] * 4, "must be three numbers that sum to 1, got [0.25, 0.25, 0.25, 0.25]."),
        ([0.8, 0.1, 0.2], "must be three numbers that sum to 1, got [0.8, 0.1, 0.2]."),
        ([80, 10, 10], "must be a number above 0 to 1, got 80."),
        ([0.9, 0.1, 0.0], "must be a number above 0 to 1, got 0.0."),
        ([0.9, 0.2, -0.1], "must be a number above 0 to 1, got -0.1."),
        ([0.8, "0.1", 0.1], "must be a number above 0 to 1, got '0.1'."),
        ([0.8, None, 0.1], "must be a number above 0 to 1, got None."),
        (None, "must be three numbers that sum to 1, got None."),
        (0.8, "must be three numbers that sum to 1, got 0.8."),
    ],
)
def test_shares_that_are_none(shares: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        RandomSplit(shares=shares).assign(make_table(MANY[:100]))
    assert str(caught.value) == f"split.shares {message}"


def test_shares_may_miss_one_by_rounding() -> None:
    assert set(RandomSplit(shares=[0.7, 0.15, 0.15 + 1e-9]).assign(make_table(MANY))) == set(SPLIT_NAMES)


@pytest.mark.parametrize("seed", [-1, 1.5, True, "0", None])
def test_a_seed_that_is_none(seed: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        RandomSplit(shares=SHARES, seed=seed).assign(make_table(MANY[:100]))
    assert str(caught.value) == f"split.seed must be an integer from 0 up, got {seed!r}."


# Empty splits


def refusal(split: Split, ids: list[str]) -> str:
    """What is said where a split is empty, or nothing."""
    try:
        split.assign(make_table(ids))
    except DataError as error:
        return str(error)
    return ""


EMPTY_SPLIT = re.compile(
    r"split must leave no split empty, but (.+) would be \(train (\d+), val (\d+), test (\d+)\)\. "
    r"The hash can do that to few places: split\.seed=(\d+) fills all three\."
)


@pytest.mark.parametrize("count", [3, 4, 6, 10])
def test_an_empty_split_is_refused_with_a_seed_that_works(count: int) -> None:
    ids = [f"place {at}" for at in range(count)]
    refusals = {seed: refusal(RandomSplit(shares=SHARES, seed=seed), ids) for seed in range(20)}
    for seed, message in refusals.items():
        filled = {"train" if by_hand(one, f"split{seed}") < 0.8 else "rest" for one in ids}
        if not message:
            assert filled == {"train", "rest"}
            continue
        match = EMPTY_SPLIT.fullmatch(message)
        assert match, message
        counts = dict(zip(SPLIT_NAMES, map(int, match.groups()[1:4]), strict=True))
        assert sum(counts.values()) == count
        assert match[1].split(" and ") == [name for name in SPLIT_NAMES if not counts[name]]
        suggested = RandomSplit(shares=SHARES, seed=int(match[5]))
        assert set(suggested.assign(make_table(ids))) == set(SPLIT_NAMES)
    assert sum(map(bool, refusals.values())) > 3  # or nothing was tested


def test_where_no_seed_helps_the_message_says_so() -> None:
    with pytest.raises(DataError) as caught:
        RandomSplit(shares=[1 - 2e-6, 1e-6, 1e-6]).assign(make_table(["a", "b", "c"]))
    assert str(caught.value) == (
        "split must leave no split empty, but val and test would be (train 3, val 0, test 0). "
        "Add places, or choose other split.shares."
    )


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize(
    "split",
    [RandomSplit(shares=SHARES), ColumnSplit(), FolderSplit(), KFoldSplit()],
    ids=lambda one: type(one).__name__,
)
def test_fewer_than_three_places(split: Split, count: int) -> None:
    with pytest.raises(DataError) as caught:
        split.assign(make_table(["a", "b"][:count], split="train", folder_split="train"))
    assert str(caught.value) == f"data must hold at least 3 places, one for each split, got {count}."


# By column and by folders

WORDS = ["train", "Training", " TRAIN ", "val", "valid", "Validation", "test", "Testing"]
MEANT = ["train", "train", "train", "val", "val", "val", "test", "test"]


@pytest.mark.parametrize("column", ["split", "part"])
def test_a_column_is_taken_at_its_word(column: str) -> None:
    table = make_table(MANY[:8], **{column: WORDS})
    assert ColumnSplit(column=column).assign(table).tolist() == MEANT


def test_folders_are_taken_at_their_word() -> None:
    assert FolderSplit().assign(make_table(MANY[:8], folder_split=MEANT)).tolist() == MEANT


def test_a_missing_column() -> None:
    with pytest.raises(DataError) as caught:
        ColumnSplit(column="part").assign(
            make_table(["a", "b", "c"], split="train", row="data.csv row 2", root="r")
        )
    assert str(caught.value) == ("split.column=part must be a column of every data.csv. Columns are: uuid, split.")


@pytest.mark.parametrize(("word", "shown"), [("dev", "'dev'"), ("", "''"), ("0", "'0'"), (None, "None|nan")])
def test_an_unknown_word(word: str | None, shown: str) -> None:
    """A column that one root of several lacks is a missing word too."""
    table = make_table(["a", "b", "c", "d"], split=["train", word, "val", word])
    with pytest.raises(DataError) as caught:
        ColumnSplit().assign(table)
    message = r"place b: column split must say train, val or test \(2 places do not\), got "
    remedy = r"Write one of these words for each place; for folds, a column of them per fold\."
    assert re.fullmatch(rf"{message}'?({shown})'?\. {remedy}", str(caught.value)), str(caught.value)


def test_places_outside_the_folders() -> None:
    table = make_table(["a", "b", "c", "d"], folder_split=["train", "", "val", ""])
    with pytest.raises(DataError) as caught:
        FolderSplit(val_share=0.1).assign(table)
    assert str(caught.value) == (
        "place b must lie in a folder train, val or test (2 places do not). "
        "Choose split=random, or sort the folders."
    )


@pytest.mark.parametrize(("split", "column"), [(ColumnSplit(), "split"), (FolderSplit(), "folder_split")])
def test_a_recorded_split_without_val(split: Split, column: str) -> None:
    table = make_table(["a", "b", "c"], **{column: ["train", "train", "test"]})
    with pytest.raises(DataError) as caught:
        split.assign(table)
    assert str(caught.value) == (
        "split must leave no split empty, but val would be (train 2, val 0, test 1). "
        "Assign at least one place to each of train, val and test, or set split.val_share=0.1."
    )


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


@pytest.mark.parametrize("share", [-0.1, 0.95, True, "0.1", float("nan")])
@pytest.mark.parametrize(("kind", "column"), [(ColumnSplit, "split"), (FolderSplit, "folder_split")])
def test_a_val_share_that_is_none(kind: Any, column: str, share: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        kind(val_share=share).assign(make_table(["a", "b", "c"], **{column: ["train", "train", "test"]}))
    assert str(caught.value) == f"split.val_share must be a number from 0 to 0.9, got {share!r}."


# Folds


@settings(max_examples=20, deadline=None)
@given(folds=st.integers(2, 8), seed=st.integers(0, 1000))
def test_every_place_is_tested_in_exactly_one_fold(folds: int, seed: int) -> None:
    table = make_table(MANY[:400])
    runs = np.stack([KFoldSplit(folds=folds, fold=fold, seed=seed).assign(table) for fold in range(folds)])
    assert ((runs == "test").sum(axis=0) == 1).all()
    own = [int(by_hand(one, f"fold{seed}") * folds) for one in MANY[:400]]
    assert (runs == "test").argmax(axis=0).tolist() == own


def test_folds_are_of_a_size_and_val_is_a_share_of_the_rest() -> None:
    for fold in range(5):
        splits = KFoldSplit(folds=5, fold=fold, val_share=0.25).assign(make_table(MANY))
        np.testing.assert_allclose([(splits == name).mean() for name in SPLIT_NAMES], [0.6, 0.2, 0.2], atol=0.015)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"folds": 1}, "split.folds must be an integer from 2 up, got 1."),
        ({"folds": 5, "fold": 5}, "split.fold must be an integer from 0 to 4, got 5."),
        ({"fold": -1}, "split.fold must be an integer from 0 to 4, got -1."),
        ({"val_share": 0.0}, "split.val_share must be a number above 0 to 0.9, got 0.0."),
        ({"val_share": 1}, "split.val_share must be a number above 0 to 0.9, got 1."),
    ],
)
def test_folds_that_are_none(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        KFoldSplit(**options).assign(make_table(MANY[:100]))
    assert str(caught.value) == message


def test_an_empty_fold_is_refused() -> None:
    with pytest.raises(DataError) as caught:
        KFoldSplit(folds=1000, fold=0).assign(make_table(["a", "b", "c"]))
    assert str(caught.value).endswith("Choose another split.seed, or fewer split.folds.")
    assert "test" in str(caught.value)


# Fractions


@settings(max_examples=50, deadline=None)
@given(small=st.floats(0.05, 1.0), large=st.floats(0.05, 1.0), seed=st.integers(0, 50))
def test_fractions_are_nested(small: float, large: float, seed: int) -> None:
    few, many = (thin_training(MANY[:500], share, seed) for share in sorted((small, large)))
    assert not (few & ~many).any()
    assert few.tolist() == [by_hand(one, f"fraction{seed}") < min(small, large) for one in MANY[:500]]


@pytest.mark.parametrize("fraction", [0.01, 0.1, 0.5, 0.9, 1.0])
def test_a_fraction_keeps_about_its_share(fraction: float) -> None:
    assert thin_training(MANY, fraction, 0).mean() == pytest.approx(fraction, abs=0.015)


def test_a_fraction_of_the_training_places_is_drawn_afresh() -> None:
    """Thinning by the hash that made the split would keep all of a share's lower end or nothing of it."""
    splits = RandomSplit(shares=SHARES).assign(make_table(MANY))
    train = [one for one, side in zip(MANY, splits, strict=True) if side == "train"]
    assert thin_training(train, 0.5, 0).mean() == pytest.approx(0.5, abs=0.02)


def test_a_fraction_must_leave_a_place() -> None:
    with pytest.raises(DataError) as caught:
        thin_training(["a", "b", "c"], 1e-9, 0)
    assert str(caught.value) == "data.fraction must leave a training place of 3, got 1e-09."


@pytest.mark.parametrize("fraction", [0.0, -0.5, 1.01, True, "1"])
def test_a_fraction_that_is_none(fraction: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        thin_training(MANY[:10], fraction, 0)
    assert str(caught.value) == f"data.fraction must be a number above 0 to 1, got {fraction!r}."


# The calibration part of validation


def test_a_part_is_held_out_by_hash_alone() -> None:
    taken = draw_calibration_places(MANY, 0.33, 20, 4)
    assert taken.tolist() == [by_hand(one, "calibration4") < 0.33 for one in MANY]
    assert taken.mean() == pytest.approx(0.33, abs=0.02)
    np.testing.assert_array_equal(draw_calibration_places(MANY[500:], 0.33, 20, 4), taken[500:])
    assert (draw_calibration_places(MANY, 0.1, 20, 4) <= taken).all()
    assert (draw_calibration_places(MANY, 0.33, 20, 5) != taken).any()


def test_none_are_held_out_where_either_part_would_be_small() -> None:
    held = int(draw_calibration_places(MANY[:60], 0.33, 1, 0).sum())
    assert 1 < held < 30
    assert draw_calibration_places(MANY[:60], 0.33, held, 0).sum() == held
    assert draw_calibration_places(MANY[:60], 0.33, held + 1, 0).sum() == 0
    assert draw_calibration_places(MANY[:60], 0.9, 20, 0).sum() == 0
    assert draw_calibration_places(MANY[:60], 0.0, 1, 0).sum() == 0
    assert draw_calibration_places([], 0.33, 1, 0).shape == (0,)


def test_what_is_held_out_has_rules() -> None:
    for share in (-0.1, 0.95, "half", None, True):
        with pytest.raises(ConfigError, match=r"^calibration\.fraction must be a number from 0 to 0\.9, got"):
            check_calibration(share, 20)
    for fewest in (0, 2.5, None):
        with pytest.raises(ConfigError, match=r"^calibration\.min_places must be a positive integer, got"):
            check_calibration(0.33, fewest)
