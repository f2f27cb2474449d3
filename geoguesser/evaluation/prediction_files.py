"""Coordinate table: points by id, from a file of any program. Columns are found by name; units are checked."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError, DataError, MissingFileError, check_choice, first_line
from geoguesser.geo.distance import haversine_km

log = logging.getLogger(__name__)
SUFFIXES = (".csv", ".tsv", ".parquet")
UNITS = ("degrees", "radians")
ID_NAMES = ("uuid", "id", "place_id", "place", "image_id", "name", "filename")
PREDICTED_WORDS, TRUE_WORDS = ("predicted", "pred"), ("true", "gt")
COORDINATE_NAMES = {"latitude": ("latitude", "lat"), "longitude": ("longitude", "lon", "lng", "long")}


@dataclass(frozen=True)
class ColumnNames:
    """Which columns hold what; None for one that is found by its name.

    Attributes:
        key: The config key that names them, for messages: `columns` or `truth_columns`.
        words: What may stand before or behind a coordinate's name: `true_latitude`, `lat_pred`.
        marked: Only names with such a word count, for the others are of something else.
        id: Of the places' ids.
        latitude: In degrees, or in what `units` says.
        longitude: Likewise.
    """

    key: str
    words: Sequence[str]
    marked: bool = False
    id: str | None = None
    latitude: str | None = None
    longitude: str | None = None


def read_coordinates(
    file: Path, key: str, columns: ColumnNames, units: str = "degrees", *, blank: bool = False
) -> pd.DataFrame:
    """Reads points.

    Args:
        file: CSV, TSV or Parquet.
        key: The config key that names the file, for messages.
        columns: Where they stand.
        units: Of the file's coordinates.
        blank: Rows without coordinates are left out: places that were given no answer.

    Returns:
        uuid (text; None in all rows where the file has no ids), latitude and longitude in degrees, and row.

    Raises:
        MissingFileError: There is no such file.
        ConfigError: A column that the config names is not there.
        DataError: It cannot be read, no column has such a name, an id comes twice, or a coordinate is no number,
            out of range, or of other units.
    """
    check_choice(f"{columns.key}.units", units, UNITS)
    table = _read(file, key)
    names = {_plain(name): str(name) for name in table.columns}
    found = {member: _column(names, columns, member, file) for member in COORDINATE_NAMES}
    own_id = columns.id
    if own_id is None:
        own_id = next((names[name] for name in ID_NAMES if name in names), None)
    elif own_id not in table:
        raise ConfigError.at(f"{columns.key}.id", f"must be a column of {file}", found=own_id)
    table["row"] = [f"{file} row {line}" for line in range(2, len(table) + 2)]
    if blank:
        empty = table[list(found.values())].replace(r"^\s*$", np.nan, regex=True).isna().all(axis=1)
        table = table[~empty].reset_index(drop=True)
    points = table[["row"]].assign(uuid=None if own_id is None else table[own_id].astype(str).str.strip())
    for member, name in found.items():
        values = pd.to_numeric(table[name], errors="coerce")
        points[member] = np.degrees(values) if units == "radians" else values
        bad = np.flatnonzero(~np.isfinite(points[member]))
        if len(bad):
            where, value = f"{points['row'][bad[0]]}: {name}", str(table[name][bad[0]])
            raise DataError.at(where, f"must be a number ({len(bad)} are not)", found=value)
    if own_id is not None:
        nameless = table[own_id].isna() | points["uuid"].isin(("", "nan"))
        if nameless.any():
            raise DataError.at(f"{points['row'][int(nameless.argmax())]}: {own_id}", "must not be empty")
        twice = points["uuid"].duplicated()
        if twice.any():
            first = points[twice].iloc[0]
            raise DataError.at(f"{first['row']}: {own_id}", "must be there once only", found=first["uuid"])
    _check_range(points, found)
    return points


def _read(file: Path, key: str) -> pd.DataFrame:
    if not file.is_file():
        raise MissingFileError.at(f"{key}={file}", "must be a file")
    if file.suffix.lower() not in SUFFIXES:
        raise DataError.at(f"{key}={file}", f"must be one of {', '.join(SUFFIXES)}", found=file.suffix)
    try:
        if file.suffix.lower() == ".parquet":
            table = pd.read_parquet(file)
        else:
            table = pd.read_csv(file, sep="\t" if file.suffix.lower() == ".tsv" else ",", dtype=str)
    except Exception as error:  # pandas and pyarrow have many kinds
        raise DataError.at(f"{key}={file}", f"cannot be read ({first_line(error)})") from error
    if len(table.columns) == 1 and ";" in str(table.columns[0]):
        raise DataError.at(f"{key}={file}", "must be separated by commas, not by semicolons")
    if table.empty:
        raise DataError.at(f"{key}={file}", "must hold at least one row")
    return table


def _plain(name: object) -> str:
    return "_".join(str(name).strip().lower().replace("-", "_").split())


def _candidates(member: str, columns: ColumnNames) -> list[str]:
    """Names by descending clearness: `true_latitude`, `latitude_true`, .., `latitude`, `lat`."""
    bare = COORDINATE_NAMES[member]
    marked = [name for word in columns.words for one in bare for name in (f"{word}_{one}", f"{one}_{word}")]
    return marked if columns.marked else [*marked, *bare]


def _column(names: dict[str, str], columns: ColumnNames, member: str, file: Path) -> str:
    given: str | None = getattr(columns, member)
    if given is not None:
        if given not in names.values():
            raise ConfigError.at(f"{columns.key}.{member}", f"must be a column of {file}", found=given)
        return given
    for name in _candidates(member, columns):
        if name in names:
            return names[name]
    raise DataError.at(
        str(file), f"has no column for {columns.words[0]} {member}", found=list(names.values()),
        remedy=f"Name it: {columns.key}.{member}=COLUMN.",
    )  # fmt: skip


def _check_range(points: pd.DataFrame, names: dict[str, str]) -> None:
    for member, most in (("latitude", 90.0), ("longitude", 180.0)):
        values = points[member].to_numpy()
        bad = np.flatnonzero(np.abs(values) > most)
        if not len(bad):
            continue
        hint = "If they are swapped, name the columns."
        if np.median(np.abs(values)) > 1000:
            hint = "They look like metres or millionths: degrees are needed."
        raise DataError.at(
            f"{points['row'][bad[0]]}: {names[member]}", f"must be within {most:g} degrees ({len(bad)} are not)",
            found=float(values[bad[0]]), remedy=hint,
        )  # fmt: skip


def match_rows(points: pd.DataFrame, truth: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Brings predictions and truth together.

    Args:
        points: As `read_coordinates` gives them.
        truth: Likewise.

    Returns:
        One row per place of both: uuid, latitude, longitude, true_latitude, true_longitude, in the truth's order;
        how many places of the truth have no prediction; how many predictions are of no place.

    Raises:
        DataError: One file has ids and the other none, without ids their lengths differ, or no id is in both.
    """
    named = (points["uuid"].notna().all(), truth["uuid"].notna().all())
    true = truth.rename(columns={"latitude": "true_latitude", "longitude": "true_longitude"}).drop(columns="row")
    if not any(named):
        if len(points) != len(truth):
            raise DataError.at(
                "predictions and truth", "must have as many rows as each other where they have no ids",
                found=f"{len(points)} and {len(truth)}", remedy="Name the ids: columns.id, truth_columns.id.",
            )  # fmt: skip
        table = true.assign(latitude=points["latitude"], longitude=points["longitude"])
        table["uuid"] = [str(row) for row in range(1, len(table) + 1)]
        log.warning("no ids in either file: the rows of one stand for those of the other, in order")
        return table, 0, 0
    if not all(named):
        lacks = "truth_columns.id" if named[0] else "columns.id"
        raise DataError.at(lacks, "must name the column of ids, for the other file has them", found=None)
    table = true.merge(points.drop(columns="row"), on="uuid", how="inner", validate="one_to_one")
    alike = {_bare(uuid) for uuid in points["uuid"]} & {_bare(uuid) for uuid in truth["uuid"]}
    if len(alike) > len(table):
        log.warning(
            "%d ids would be the same but for case, leading zeros, .0 or a suffix", len(alike) - len(table)
        )
    if table.empty:
        some = f"{points['uuid'][0]!r} and {truth['uuid'][0]!r}"
        remedy = "They differ in case, leading zeros, .0 or a suffix: write them alike." if alike else ""
        raise DataError.at(
            "predictions and truth", f"must have ids in common; they begin with {some}", remedy=remedy
        )
    return table, len(truth) - len(table), len(points) - len(table)


def _bare(uuid: str) -> str:
    """An id without what programs add to it or take from it."""
    bare = uuid.lower().removesuffix(".0")
    stem, dot, suffix = bare.rpartition(".")
    if dot and suffix in ("jpg", "jpeg", "png", "webp"):
        bare = stem
    return bare.lstrip("0") or "0"


def check_units(predicted_deg: FloatArray, true_deg: FloatArray) -> None:
    """Refuses predictions that are plainly in other units or order than degrees of latitude and longitude.

    Args:
        predicted_deg: (N, 2) as read.
        true_deg: (N, 2) the truth.

    Raises:
        DataError: They look like radians, or swapped.
    """
    error_km = haversine_km(predicted_deg, true_deg)
    mean, swapped = float(error_km.mean()), np.inf
    if np.abs(predicted_deg[:, 1]).max() <= 90.0:
        swapped = float(haversine_km(predicted_deg[:, ::-1], true_deg).mean())
    if len(error_km) >= 2 and swapped < mean / 5:
        raise DataError(
            f"predictions look swapped: the mean error is {mean:,.0f} km, with latitude and longitude exchanged "
            f"{swapped:,.0f} km. Name the columns: columns.latitude=..., columns.longitude=..."
        )
    small = np.abs(predicted_deg).max(axis=0) <= (np.pi / 2, np.pi)
    if small.all() and np.abs(true_deg).max() > 4 * np.pi and np.median(error_km) > 500:
        raise DataError(
            "predictions look like radians: none is beyond pi, and their median error is "
            f"{np.median(error_km):,.0f} km. Add columns.units=radians, or give degrees."
        )
