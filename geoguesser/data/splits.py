"""Splits of places into training, validation and test, with approximate shares.

Ids are hashed, so that the split of a place depends neither on its row nor on the other places.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd

from geoguesser.arrays import BoolArray, FloatArray, IntArray, StringArray
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.errors import ConfigError, DataError, check_int, check_number
from geoguesser.geo.region import Region

SPLIT_NAMES = ("train", "val", "test")
SPLIT_ALIASES = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}
UNUSED = "unused"

# Columns that reading the places adds to those of data.csv.
ADDED_COLUMNS = ("row", "folder", "names", "folder_split", "root")

CONSTRAINED_REMEDY = (
    "Duplicates share a split, recorded places keep theirs, and places within the buffer are not used: that "
    "empties it. Add places, or look at findings.csv and the splits that the store recorded."
)


def hash_share(ids: list[str], salt: str) -> FloatArray:
    """Returns (N,) a number in [0, 1) for each id, the same on every machine; salts are independent."""
    digests = (hashlib.blake2b(f"{salt}:{name}".encode(), digest_size=8).digest() for name in ids)

    # The upper 53 bits fill the mantissa of a float64 exactly.
    return np.array([int.from_bytes(digest, "big") >> 11 for digest in digests]) / 2.0**53


class SplitConstraints(NamedTuple):
    """Constraints on a split, beside its own rule.

    Attributes:
        groups: (N,) number of the group of each place; duplicates share a group.
        recorded: (N,) split that a store recorded, empty for a new place.
    """

    groups: IntArray
    recorded: StringArray


def check_shares(shares: object) -> None:
    """Raises ConfigError unless `split.shares` is three positive numbers that sum to 1."""
    rule = "must be three numbers that sum to 1"
    if not isinstance(shares, list | tuple) or len(shares) != 3:
        raise ConfigError.at("split.shares", rule, found=shares)

    total = sum(check_number("split.shares", share, low=0.0, high=1.0, open_low=True) for share in shares)
    if abs(total - 1.0) > 1e-6:
        raise ConfigError.at("split.shares", rule, found=shares)


def assign_by_share(draws: FloatArray, shares: list[float]) -> StringArray:
    """Returns (N,) train, val or test for (N,) numbers in [0, 1)."""
    return np.array(SPLIT_NAMES)[np.searchsorted(np.cumsum(shares)[:2], draws, "right")]


class Split(ABC):
    """Rule that assigns each place of a table to `train`, `val` or `test`; `blocks` also to `unused`.

    Attributes:
        is_explicit: True if the user's data state the split of each place, so that no constraint may change it.
    """

    kind: ClassVar[str]
    is_explicit: ClassVar[bool] = False

    def assign(
        self, table: pd.DataFrame, region: Region | None = None, constraints: SplitConstraints | None = None
    ) -> StringArray:
        """Returns (N,) the split of each row, as `assign_constrained` does, without the conflicts."""
        return self.assign_constrained(table, region, constraints)[0]

    def assign_constrained(
        self,
        table: pd.DataFrame,
        region: Region | None = None,
        constraints: SplitConstraints | None = None,
        *,
        drop: bool = False,
    ) -> tuple[StringArray, list[tuple[int, str]]]:
        """Returns (N,) the split of each row, and row and reason of places with duplicates in two splits.

        A recorded place keeps its split. A new place joins the split of its duplicates; if these lie in two
        splits, it becomes `unused`. New places that are duplicates of each other share a split. With `drop`, all
        places with duplicates in two splits become `unused`, also if their split is explicit or recorded.

        Raises ConfigError if a value of the split breaks its rule, DataError if a split would be empty or a
        recorded one is unknown.
        """
        if len(table) < len(SPLIT_NAMES):
            raise DataError.at("data", "must hold at least 3 places, one for each split", found=len(table))

        self.check()
        splits = unconstrained = self._assign(table, region).astype("U6")
        conflicts: list[tuple[int, str]] = []
        movable = np.ones(len(table), dtype=bool)
        if constraints is not None:
            movable = constraints.recorded == ""
            splits = np.where(movable, unconstrained, constraints.recorded)
            conflicts = _join_duplicates(splits, constraints.groups, movable, self.is_explicit)
            if drop:
                splits[[row for row, _ in conflicts]] = UNUSED
        if not self.is_explicit:
            splits = splits.copy()
            self._clear_buffer(table, splits, movable)

        empty = [name for name in SPLIT_NAMES if not (splits == name).any()]
        if empty:
            counts = ", ".join(f"{name} {int((splits == name).sum())}" for name in SPLIT_NAMES)
            is_own_fault = not set(SPLIT_NAMES) <= set(unconstrained)
            rule = f"must leave no split empty, but {' and '.join(empty)} would be ({counts})"
            remedy = self._suggest_remedy(table) if is_own_fault else CONSTRAINED_REMEDY
            raise DataError.at("split", rule, remedy=remedy)
        return splits, conflicts

    def __str__(self) -> str:
        """Returns the overrides that choose this split, such as `split=column split.column=fold split.seed=0`."""
        values = [f"split.{name}={value}" for name, value in vars(self).items()]
        return " ".join([f"split={self.kind}", *values])

    @abstractmethod
    def check(self) -> None:
        """Raises ConfigError if a value breaks its rule; a run checks this before it reads any data."""

    @abstractmethod
    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        """Returns (N,) the split of each row by the rule, without constraints."""

    def _clear_buffer(  # noqa: B027  # most splits have no buffer
        self, table: pd.DataFrame, splits: StringArray, movable: BoolArray
    ) -> None:
        """Makes movable places too near to another split `unused`, in place; most splits have no buffer."""

    def _suggest_remedy(self, table: pd.DataFrame) -> str:
        return "Assign at least one place to each of train, val and test, or set split.val_share=0.1."


def split_places(
    split: Split, table: pd.DataFrame, region: Region, constraints: SplitConstraints | None, findings: Findings
) -> StringArray:
    """Returns (N,) train, val, test or unused; records the places with duplicates in two splits as findings.

    With `data.on_bad.split_bridge=skip` these places become `unused`. A split that keeps duplicates apart on its
    own (`split=blocks`, recorded splits) has done so already.

    Raises DataError if a split would be empty; the message lists the places left out before.
    """
    try:
        splits, conflicts = split.assign_constrained(
            table, region, constraints, drop=not findings.keeps("split_bridge")
        )
    except DataError as error:
        left_out = findings.format_skipped()
        raise DataError(f"{error} Left out before: {left_out}." if left_out else str(error)) from error

    names, rows = table["uuid"].to_numpy(), table["row"].to_numpy()
    findings.record(
        Finding("split_bridge", str(rows[row]), f"({names[row]}) {reason}") for row, reason in conflicts
    )
    return splits


def _join_duplicates(
    splits: StringArray, groups: IntArray, movable: BoolArray, is_explicit: bool
) -> list[tuple[int, str]]:
    """Assigns duplicates to one split, in place, and returns the places whose duplicates lie in two splits."""
    sizes = np.bincount(groups)
    rows = np.flatnonzero(sizes[groups] > 1)
    if len(rows) == 0:
        return []

    conflicts: list[tuple[int, str]] = []
    by_group = np.split(rows[np.argsort(groups[rows], kind="stable")], np.cumsum(sizes[sizes > 1])[:-1])
    for group in by_group:
        fixed, free = group[~movable[group]], group[movable[group]]
        if is_explicit:
            fixed, free = group, group[:0]
        fixed_splits = {str(name) for name in splits[fixed]} - {UNUSED}
        if len(fixed_splits) < 2:
            splits[free] = fixed_splits.pop() if fixed_splits else splits[group[0]]
            continue

        first = next(splits[row] for row in fixed if splits[row] != UNUSED)
        reason = f"is the same as places in {' and '.join(sorted(fixed_splits))}"
        conflicts += [(int(row), reason) for row in fixed if splits[row] not in (first, UNUSED)]
        conflicts += [(int(row), f"{reason}; it is not used") for row in free]
        splits[free] = UNUSED
    return conflicts


@dataclass(frozen=True, kw_only=True)
class RandomSplit(Split):
    """Split by the hash of the id, into shares of train, val and test that sum to 1."""

    kind: ClassVar[str] = "random"
    shares: list[float]
    seed: int = 0

    def check(self) -> None:
        check_shares(self.shares)
        check_int("split.seed", self.seed, low=0)

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        return self._assign_with_seed(table, self.seed)

    def _assign_with_seed(self, table: pd.DataFrame, seed: int) -> StringArray:
        return assign_by_share(hash_share(table["uuid"].tolist(), f"split{seed}"), self.shares)

    def _suggest_remedy(self, table: pd.DataFrame) -> str:
        for seed in range(1000):
            if len(set(self._assign_with_seed(table, seed))) == 3:
                return f"The hash can do that to few places: split.seed={seed} fills all three."
        return "Add places, or choose other split.shares."


@dataclass(frozen=True, kw_only=True)
class ColumnSplit(Split):
    """Split by a column of data.csv that holds train, val (valid, validation) or test.

    If it has no val, `val_share` of the training places becomes val, by hash.
    """

    kind: ClassVar[str] = "column"
    is_explicit: ClassVar[bool] = True
    column: str = "split"
    val_share: float = 0.0
    seed: int = 0

    def check(self) -> None:
        _check_val_share(self.val_share, self.seed)

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        if self.column not in table:
            columns = ", ".join(str(name) for name in table if name not in ADDED_COLUMNS)
            rule = "must be a column of every data.csv"
            raise DataError.at(f"split.column={self.column}", rule, remedy=f"Columns are: {columns}.")
        return _read_column(table, self.column, f"column {self.column}", self.val_share, self.seed)


@dataclass(frozen=True, kw_only=True)
class FolderSplit(Split):
    """Split by the folders train, val and test in which places or their views lie.

    Without a val folder, `val_share` of the training places becomes val, by hash.
    """

    kind: ClassVar[str] = "folders"
    is_explicit: ClassVar[bool] = True
    val_share: float = 0.0
    seed: int = 0

    def check(self) -> None:
        _check_val_share(self.val_share, self.seed)

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        if "folder_split" not in table:
            raise ConfigError.at(
                "split", "must not be folders for a store", remedy="It recorded them: split=store."
            )

        outside = table["folder_split"].fillna("") == ""
        if outside.any():
            where = f"place {table['uuid'][outside].iloc[0]}"
            rule = f"must lie in a folder train, val or test ({int(outside.sum())} places do not)"
            raise DataError.at(where, rule, remedy="Choose split=random, or sort the folders.")
        return _read_column(table, "folder_split", "the folder", self.val_share, self.seed)


@dataclass(frozen=True, kw_only=True)
class KFoldSplit(Split):
    """Split into folds by the hash of the id: one fold, from 0, is test, and `val_share` of the others is val."""

    kind: ClassVar[str] = "kfold"
    folds: int = 5
    fold: int = 0
    val_share: float = 0.1
    seed: int = 0

    def check(self) -> None:
        check_int("split.fold", self.fold, low=0, high=check_int("split.folds", self.folds, low=2) - 1)
        check_number("split.val_share", self.val_share, low=0.0, high=0.9, open_low=True)
        check_int("split.seed", self.seed, low=0)

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        ids = table["uuid"].tolist()
        folds = np.floor(hash_share(ids, f"fold{self.seed}") * self.folds).astype(int)
        splits = np.where(hash_share(ids, f"val{self.seed}") < self.val_share, "val", "train")
        return np.where(folds == self.fold, "test", splits)

    def _suggest_remedy(self, table: pd.DataFrame) -> str:
        return "Choose another split.seed, or fewer split.folds."


@dataclass(frozen=True, kw_only=True)
class StoredSplit(Split):
    """Split that a store recorded when it was prepared, `split=store`; for `data=store`."""

    kind: ClassVar[str] = "store"
    is_explicit: ClassVar[bool] = True

    def check(self) -> None:
        """Does nothing: the split has no values."""

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        if "store_split" not in table:
            rule = "must not be store unless the data come from one"
            raise ConfigError.at("split", rule, remedy="Choose split=random, or data=store.")

        splits = table["store_split"].astype(str)
        bad = ~splits.isin([*SPLIT_NAMES, UNUSED])
        if bad.any():
            place = f"place {table['uuid'][bad].iloc[0]}: column store_split"
            raise DataError.at(place, "must be train, val, test or unused", found=splits[bad].iloc[0])
        return splits.to_numpy(dtype=np.str_)


def _check_val_share(val_share: float, seed: int) -> None:
    check_number("split.val_share", val_share, low=0.0, high=0.9)
    check_int("split.seed", seed, low=0)


def _read_column(table: pd.DataFrame, column: str, subject: str, val_share: float, seed: int) -> StringArray:
    words = table[column].fillna("").astype(str).str.strip().str.lower().replace(SPLIT_ALIASES)
    bad = ~words.isin(SPLIT_NAMES)
    if bad.any():
        where = f"place {table['uuid'][bad].iloc[0]}: {subject}"
        rule = f"must say train, val or test ({int(bad.sum())} places do not)"
        remedy = "Write one of these words for each place; for folds, a column of them per fold."
        raise DataError.at(where, rule, found=str(table[column][bad].iloc[0]), remedy=remedy)

    splits = words.to_numpy(dtype=np.str_)
    if val_share and not (splits == "val").any():
        drawn = hash_share(table["uuid"].tolist(), f"val{seed}") < val_share
        splits = np.where(drawn & (splits == "train"), "val", splits)
    return splits


def thin_training(ids: list[str], fraction: float, seed: int) -> BoolArray:
    """Returns (N,) True for each training place that `data.fraction` keeps; a larger one keeps the same places.

    Raises ConfigError if the fraction is out of range, DataError if no place would remain.
    """
    check_number("data.fraction", fraction, low=0.0, high=1.0, open_low=True)
    kept = hash_share(ids, f"fraction{seed}") < fraction
    if not kept.any():
        raise DataError.at("data.fraction", f"must leave a training place of {len(ids)}", found=fraction)
    return kept


def draw_calibration_places(ids: list[str], fraction: float, min_places: int, seed: int) -> BoolArray:
    """Returns (N,) True for each validation place that is used for calibration only, drawn by hash of the id.

    `fraction` is their approximate share, from 0 to 0.9. If one of the parts would have fewer than `min_places`,
    no place is drawn, because the selection of weights needs all of them more.
    """
    check_calibration(fraction, min_places)
    drawn = hash_share(ids, f"calibration{seed}") < fraction
    return drawn if min(drawn.sum(), (~drawn).sum()) >= min_places else np.zeros(len(ids), dtype=bool)


def check_calibration(fraction: object, min_places: object) -> None:
    """Raises ConfigError unless the fraction is from 0 to 0.9 and `min_places` is a positive integer."""
    check_number("calibration.fraction", fraction, low=0.0, high=0.9)
    check_int("calibration.min_places", min_places, low=1)
