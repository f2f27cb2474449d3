"""Splits: which places are for training, validation and test.

Ids are hashed, so a place's side depends on its id and the split's seed alone: not on its row, nor on
which other places there are. Shares are therefore approximate.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser.arrays import BoolArray, FloatArray, IntArray, StringArray
from geoguesser.errors import ConfigError, DataError, check_int, check_number
from geoguesser.geo.region import Region

NAMES = ("train", "val", "test")
UNUSED = "unused"
TIED = (
    "Places that are the same stay together, recorded ones stay where they are, and near ones make way: that "
    "empties it. Add places, or look at findings.csv and the splits that the store recorded."
)
OURS = ("row", "folder", "names", "folder_split", "root")  # columns that reading the places adds
ALIASES = {"valid": "val", "validation": "val", "training": "train", "testing": "test"}


def hash_share(ids: list[str], salt: str) -> FloatArray:
    """(N,) a number from 0 to below 1 for each id, the same on every machine; salts are independent."""
    digests = (hashlib.blake2b(f"{salt}:{one}".encode(), digest_size=8).digest() for one in ids)
    return np.array([int.from_bytes(digest, "big") >> 11 for digest in digests]) / 2.0**53


@dataclass(frozen=True)
class SplitConstraints:
    """What binds places to a split or to each other, beside the rule of the split itself.

    Attributes:
        groups: (N,) a number per place; places that are the same share one.
        recorded: (N,) the split that a store recorded, empty for a new place.
    """

    groups: IntArray
    recorded: StringArray


@dataclass(frozen=True)
class SplitConflict:
    """A place that is the same as places on both sides of a split."""

    row: int
    other: int
    reason: str


def check_shares(shares: object) -> None:
    """Raises ConfigError unless these are three positive numbers that sum to 1."""
    rule = "must be three numbers that sum to 1"
    if not isinstance(shares, list | tuple) or len(shares) != 3:
        raise ConfigError.at("split.shares", rule, found=shares)
    total = sum(check_number("split.shares", share, low=0.0, high=1.0, open_low=True) for share in shares)
    if abs(total - 1.0) > 1e-6:
        raise ConfigError.at("split.shares", rule, found=shares)


def assign_by_share(draws: FloatArray, shares: list[float]) -> StringArray:
    """(N,) numbers from 0 to below 1 -> (N,) train, val or test."""
    return np.array(NAMES)[np.searchsorted(np.cumsum(shares)[:2], draws, "right")]


class Split(ABC):
    """Assigns each place of a table to `train`, `val` or `test`; `blocks` also to `unused`.

    Attributes:
        kind: Its name as a choice of the config group.
        given: Whether the user says which place goes where, so that nothing may move it.
    """

    kind: ClassVar[str]
    given: ClassVar[bool] = False

    def assign(
        self, table: pd.DataFrame, region: Region | None = None, ties: SplitConstraints | None = None
    ) -> StringArray:
        """(N,) the split of each row; as `assign_tied`, without its bridges."""
        return self.assign_tied(table, region, ties)[0]

    def assign_tied(
        self,
        table: pd.DataFrame,
        region: Region | None = None,
        ties: SplitConstraints | None = None,
        *,
        drop: bool = False,
    ) -> tuple[StringArray, list[SplitConflict]]:
        """Assigns each row to a split.

        A recorded place keeps its split. A new one that is the same as others joins theirs; where these
        lie on both sides of a split it becomes `unused`. New places that are the same stay together.

        Args:
            table: N places with uuid, latitude, longitude and the columns that the split reads.
            region: In whose space blocks are laid.
            ties: What binds places.
            drop: Places that bridge two splits become `unused`, given and recorded ones too.

        Returns:
            (N,) the split of each row, and the places that bridge two splits.

        Raises:
            ConfigError: A value breaks its rule.
            DataError: A split would be empty, or a recorded split is no known one.
        """
        if len(table) < len(NAMES):
            raise DataError.at("data", "must hold at least 3 places, one for each split", found=len(table))
        splits = alone = self._assign(table, region).astype("U6")
        bridges: list[SplitConflict] = []
        movable = np.ones(len(table), dtype=bool)
        if ties is not None:
            movable = ties.recorded == ""
            splits = np.where(movable, alone, ties.recorded)
            bridges = _tie(splits, ties, movable, self.given)
            if drop:
                splits[[one.row for one in bridges]] = UNUSED
        if not self.given:
            splits = splits.copy()
            self._clear(table, region, splits, movable)
        empty = [name for name in NAMES if not (splits == name).any()]
        if empty:
            counts = ", ".join(f"{name} {int((splits == name).sum())}" for name in NAMES)
            raise DataError.at(
                "split",
                f"must leave no split empty, but {' and '.join(empty)} would be ({counts})",
                remedy=self._remedy(table) if len(set(alone) & set(NAMES)) < len(NAMES) else TIED,
            )
        return splits, bridges

    def __str__(self) -> str:
        """As one would ask for it: `split=random split.shares=[0.8, 0.1, 0.1] split.seed=0`."""
        values = [f"split.{name}={value}" for name, value in vars(self).items()]
        return " ".join([f"split={self.kind}", *values])

    @abstractmethod
    def check(self) -> None:
        """Raises ConfigError where a value breaks its rule; a run asks before it reads any data."""

    @abstractmethod
    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray: ...

    def _clear(  # noqa: B027  # most splits have nothing to clear
        self, table: pd.DataFrame, region: Region | None, splits: StringArray, movable: BoolArray
    ) -> None:
        """Takes places out of use, in place, that stand too near to another split; most splits take none."""

    def _remedy(self, table: pd.DataFrame) -> str:
        return "Assign at least one place to each of train, val and test, or set split.val_share=0.1."


def _tie(splits: StringArray, ties: SplitConstraints, movable: BoolArray, given: bool) -> list[SplitConflict]:
    """Brings places that are the same to one split, in place; returns those that bridge two."""
    sizes = np.bincount(ties.groups)
    bridges: list[SplitConflict] = []
    rows = np.flatnonzero(sizes[ties.groups] > 1)
    if len(rows) == 0:
        return bridges
    for group in np.split(rows[np.argsort(ties.groups[rows], kind="stable")], np.cumsum(sizes[sizes > 1])[:-1]):
        fixed = group if given else group[~movable[group]]
        sides = {str(one) for one in splits[fixed]} - {UNUSED}
        if len(sides) > 1:
            first = int(next(row for row in fixed if splits[row] != UNUSED))
            others = [int(row) for row in fixed if splits[row] not in (splits[first], UNUSED)]
            reason = f"is the same as places in {' and '.join(sorted(sides))}"
            bridges += [SplitConflict(row, first, reason) for row in others]
            if not given:
                bridges += [
                    SplitConflict(int(row), first, f"{reason}; it is not used") for row in group[movable[group]]
                ]
                splits[group[movable[group]]] = UNUSED
        elif not given:
            splits[group[movable[group]]] = sides.pop() if sides else splits[group[0]]
    return bridges


@dataclass(frozen=True, kw_only=True)
class RandomSplit(Split):
    """By hash of the id.

    Attributes:
        shares: Shares of train, val and test; they must sum to 1.
        seed: Draws the split; `seed` of the run does not touch it.
    """

    kind: ClassVar[str] = "random"
    shares: list[float]
    seed: int = 0

    def check(self) -> None:
        check_shares(self.shares)
        check_int("split.seed", self.seed, low=0)

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        self.check()
        return self._with_seed(table, self.seed)

    def _with_seed(self, table: pd.DataFrame, seed: int) -> StringArray:
        return assign_by_share(hash_share(table["uuid"].tolist(), f"split{seed}"), self.shares)

    def _remedy(self, table: pd.DataFrame) -> str:
        for seed in range(1000):
            if len(set(self._with_seed(table, seed))) == 3:
                return f"With so few places the hash can do that: split.seed={seed} fills all three."
        return "Add places, or choose other split.shares."


@dataclass(frozen=True, kw_only=True)
class ColumnSplit(Split):
    """By a column of data.csv that says train, val (valid, validation) or test.

    Attributes:
        column: The column's name.
        val_share: Where the column names no val: this share of the training places, by hash.
        seed: Draws those.
    """

    kind: ClassVar[str] = "column"
    given: ClassVar[bool] = True
    column: str = "split"
    val_share: float = 0.0
    seed: int = 0

    def check(self) -> None:
        _check_val_share(self.val_share, self.seed)

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        if self.column not in table:
            raise DataError.at(
                f"split.column={self.column}",
                "must be a column of every data.csv",
                remedy=f"Columns are: {', '.join(str(one) for one in table if one not in OURS)}.",
            )
        return _recorded(table, self.column, f"column {self.column}", self.val_share, self.seed)


@dataclass(frozen=True, kw_only=True)
class FolderSplit(Split):
    """By the folders train, val and test in which places or their views lie.

    Attributes:
        val_share: Where there is no val folder: this share of the training places, by hash.
        seed: Draws those.
    """

    kind: ClassVar[str] = "folders"
    given: ClassVar[bool] = True
    val_share: float = 0.0
    seed: int = 0

    def check(self) -> None:
        _check_val_share(self.val_share, self.seed)

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        if "folder_split" not in table:
            raise ConfigError.at(
                "split", "must not be folders for a store", remedy="It recorded them: split=store."
            )
        without = table["folder_split"].fillna("") == ""
        if without.any():
            raise DataError.at(
                f"place {table['uuid'][without].iloc[0]}",
                f"must lie in a folder train, val or test ({int(without.sum())} places do not)",
                remedy="Choose split=random, or sort the folders.",
            )
        return _recorded(table, "folder_split", "the folder", self.val_share, self.seed)


@dataclass(frozen=True, kw_only=True)
class KFoldSplit(Split):
    """Fold number `fold` of `folds` is the test split; validation is a share of the rest. By hash.

    Attributes:
        folds: How many folds.
        fold: Which one is tested, from 0.
        val_share: The share of the other folds' places that serve for validation.
        seed: Draws the folds.
    """

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
        self.check()
        ids = table["uuid"].tolist()
        own = np.floor(hash_share(ids, f"fold{self.seed}") * self.folds).astype(int)
        splits = np.where(hash_share(ids, f"val{self.seed}") < self.val_share, "val", "train")
        return np.where(own == self.fold, "test", splits)

    def _remedy(self, table: pd.DataFrame) -> str:
        return "Choose another split.seed, or fewer split.folds."


@dataclass(frozen=True, kw_only=True)
class StoredSplit(Split):
    """The split that a store recorded when it was prepared, `split=store`; for data=store."""

    kind: ClassVar[str] = "store"
    given: ClassVar[bool] = True

    def check(self) -> None:
        """It has no values."""

    def _assign(self, table: pd.DataFrame, region: Region | None) -> StringArray:
        if "store_split" not in table:
            raise ConfigError.at(
                "split",
                "must not be store unless the data come from one",
                remedy="Choose split=random, or data=store.",
            )
        splits = table["store_split"].astype(str)
        bad = ~splits.isin([*NAMES, UNUSED])
        if bad.any():
            place = f"place {table['uuid'][bad].iloc[0]}: column store_split"
            raise DataError.at(place, "must be what a store recorded", found=splits[bad].iloc[0])
        return splits.to_numpy(dtype=np.str_)


def _check_val_share(val_share: float, seed: int) -> None:
    check_number("split.val_share", val_share, low=0.0, high=0.9)
    check_int("split.seed", seed, low=0)


def _recorded(table: pd.DataFrame, column: str, what: str, val_share: float, seed: int) -> StringArray:
    words = table[column].fillna("").astype(str).str.strip().str.lower().replace(ALIASES)
    bad = ~words.isin(NAMES)
    if bad.any():
        raise DataError.at(
            f"place {table['uuid'][bad].iloc[0]}: {what}",
            f"must say train, val or test ({int(bad.sum())} places do not)",
            found=str(table[column][bad].iloc[0]),
            remedy="Write one of these words for each place; for folds, a column of them per fold.",
        )
    splits = words.to_numpy(dtype=np.str_)
    _check_val_share(val_share, seed)
    if val_share and not (splits == "val").any():
        drawn = hash_share(table["uuid"].tolist(), f"val{seed}") < val_share
        splits = np.where(drawn & (splits == "train"), "val", splits)
    return splits


def thin_training(ids: list[str], fraction: float, seed: int) -> npt.NDArray[np.bool_]:
    """(N,) which training places stay with `data.fraction`; a smaller fraction's are among a larger one's.

    Raises:
        ConfigError: The fraction is not above 0 and up to 1.
        DataError: None would stay.
    """
    check_number("data.fraction", fraction, low=0.0, high=1.0, open_low=True)
    kept = hash_share(ids, f"fraction{seed}") < fraction
    if not kept.any():
        raise DataError.at("data.fraction", f"must leave a training place of {len(ids)}", found=fraction)
    return kept


def hold_out(ids: list[str], share: float, fewest: int, seed: int) -> npt.NDArray[np.bool_]:
    """(N,) which validation places serve calibration alone: about `share` of them, by hash of the id.

    None do where either part would hold fewer than `fewest`: then choosing weights needs all of them more.

    Raises:
        ConfigError: As `check_hold_out`.
    """
    check_hold_out(share, fewest)
    taken = hash_share(ids, f"calibration{seed}") < share
    return taken if min(taken.sum(), (~taken).sum()) >= fewest else np.zeros(len(ids), dtype=bool)


def check_hold_out(share: object, fewest: object) -> None:
    """Raises ConfigError unless the share is from 0 to 0.9 and `fewest` a positive integer."""
    check_number("calibration.fraction", share, low=0.0, high=0.9)
    check_int("calibration.min_places", fewest, low=1)
