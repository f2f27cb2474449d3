"""Tables of coordinates that any program wrote: columns are recognised by name, units and ids are checked."""

from __future__ import annotations

import itertools
import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.errors import ConfigError, DataError, MissingFileError, check_choice, first_line
from geoguesser.geo.distance import haversine_km
from geoguesser.system.tables import read_csv, read_parquet

log = logging.getLogger(__name__)
SUFFIXES = (".csv", ".tsv", ".parquet")
UNITS = ("degrees", "radians")
ID_NAMES = ("uuid", "id", "place_id", "place", "image_id", "name", "filename")
PREDICTED_WORDS, TRUE_WORDS = ("predicted", "pred"), ("true", "gt")
COORDINATE_NAMES = {"latitude": ("latitude", "lat"), "longitude": ("longitude", "lon", "lng", "long")}
MAX_DEGREES = {"latitude": 90.0, "longitude": 180.0}

# If an exchange of latitude and longitude divides the mean error by this, they are taken to be swapped.
SWAP_FACTOR = 5.0
MIN_RADIANS_ERROR_KM = 500.0


@dataclass(frozen=True)
class ColumnNames:
    """Names of the columns of a table; None for a column that is recognised by its usual names.

    Attributes:
        key: Config key of the names, for messages: `columns` or `truth_columns`.
        words: Words before or after a coordinate's name, as in `true_latitude` and `lat_pred`.
        marked: Whether only names with such a word are accepted, because other columns are something else.
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
    """Reads a CSV, TSV or Parquet table of coordinates in degrees or radians. Messages name the config key.

    With `blank`, rows without coordinates, which are places without a prediction, are left out.

    Returns:
        Columns `row` (position in the file, for messages), `uuid` (text; None in all rows if the file has no ids),
        and `latitude` and `longitude` in degrees.

    Raises:
        MissingFileError: There is no such file.
        ConfigError: A column that the config names is missing.
        DataError: The file cannot be read, a column is missing, an id is empty or repeated, or a coordinate is no
            number, out of range or in other units.
    """
    check_choice(f"{columns.key}.units", units, UNITS)
    table = _read_table(file, key)
    names = {"_".join(str(name).lower().replace("-", "_").split()): str(name) for name in table.columns}
    coordinates = {kind: _find_coordinate(names, columns, kind, file) for kind in COORDINATE_NAMES}
    if columns.id is not None and columns.id not in table:
        raise ConfigError.at(f"{columns.key}.id", f"must be a column of {file}", found=columns.id)
    id_name = columns.id or next((names[name] for name in ID_NAMES if name in names), None)

    table["row"] = [f"{file} row {line}" for line in range(2, len(table) + 2)]
    if blank:
        is_empty = table[list(coordinates.values())].replace(r"^\s*$", np.nan, regex=True).isna().all(axis=1)
        table = table[~is_empty].reset_index(drop=True)

    points = table[["row"]].assign(uuid=None if id_name is None else table[id_name].astype(str).str.strip())
    for kind, name in coordinates.items():
        values = pd.to_numeric(table[name], errors="coerce")
        points[kind] = np.degrees(values) if units == "radians" else values
        bad = np.flatnonzero(~np.isfinite(points[kind]))
        if len(bad):
            where, value = f"{points['row'][bad[0]]}: {name}", str(table[name][bad[0]])
            raise DataError.at(where, f"must be a number ({len(bad)} are not)", found=value)

    if id_name is not None:
        _check_ids(points, table[id_name].isna(), id_name)
    _check_range(points, coordinates)
    return points


def _read_table(file: Path, key: str) -> pd.DataFrame:
    where, suffix = f"{key}={file}", file.suffix.lower()
    if not file.is_file():
        raise MissingFileError.at(where, "must be a file")
    if suffix not in SUFFIXES:
        raise DataError.at(where, f"must be one of {', '.join(SUFFIXES)}", found=file.suffix)

    # Readers raise many kinds of errors.
    try:
        separator = "\t" if suffix == ".tsv" else ","
        is_parquet = suffix == ".parquet"
        table = read_parquet(file) if is_parquet else read_csv(file, sep=separator, dtype=str)
    except Exception as error:
        raise DataError.at(where, f"cannot be read ({first_line(error)})") from error

    if len(table.columns) == 1 and ";" in str(table.columns[0]):
        raise DataError.at(where, "must be separated by commas, not by semicolons")
    if table.empty:
        raise DataError.at(where, "must hold at least one row")
    return table


def _find_coordinate(names: dict[str, str], columns: ColumnNames, kind: str, file: Path) -> str:
    given: str | None = getattr(columns, kind)
    if given is not None:
        if given not in names.values():
            raise ConfigError.at(f"{columns.key}.{kind}", f"must be a column of {file}", found=given)
        return given

    # Names with a word come first, because `latitude` may be another program's prediction.
    plain = COORDINATE_NAMES[kind]
    pairs = itertools.product(columns.words, plain)
    candidates = [name for word, base in pairs for name in (f"{word}_{base}", f"{base}_{word}")]
    for name in candidates if columns.marked else (*candidates, *plain):
        if name in names:
            return names[name]
    rule, remedy = f"has no column for {columns.words[0]} {kind}", f"Name it: {columns.key}.{kind}=COLUMN."
    raise DataError.at(str(file), rule, found=list(names.values()), remedy=remedy)


def _check_ids(points: pd.DataFrame, is_missing: pd.Series[bool], name: str) -> None:
    is_missing |= points["uuid"].isin(("", "nan"))
    if is_missing.any():
        raise DataError.at(f"{points['row'][int(is_missing.argmax())]}: {name}", "must not be empty")

    repeated = points[points["uuid"].duplicated()]
    if len(repeated):
        first = repeated.iloc[0]
        raise DataError.at(f"{first['row']}: {name}", "must be unique", found=first["uuid"])


def _check_range(points: pd.DataFrame, names: dict[str, str]) -> None:
    for kind, limit in MAX_DEGREES.items():
        values = points[kind].to_numpy()
        bad = np.flatnonzero(np.abs(values) > limit)
        if not len(bad):
            continue

        remedy = "If they are swapped, name the columns."
        if np.median(np.abs(values)) > 1000:
            remedy = "They look like metres or millionths: degrees are needed."
        where = f"{points['row'][bad[0]]}: {names[kind]}"
        rule = f"must be within {limit:g} degrees ({len(bad)} are not)"
        raise DataError.at(where, rule, found=float(values[bad[0]]), remedy=remedy)


def match_rows(points: pd.DataFrame, truth: pd.DataFrame) -> tuple[pd.DataFrame, int, int]:
    """Joins predictions and truth from `read_coordinates` by id, or row by row if neither has ids.

    Returns:
        A row per place of both, in the order of the truth, with uuid, latitude, longitude, true_latitude and
        true_longitude; the number of places without a prediction; the number of predictions without a place.

    Raises:
        DataError: Only one file has ids, no id is in both, or the lengths differ without ids.
    """
    has_ids = (points["uuid"].notna().all(), truth["uuid"].notna().all())
    true = truth.rename(columns={"latitude": "true_latitude", "longitude": "true_longitude"}).drop(columns="row")
    if not any(has_ids):
        if len(points) != len(truth):
            rule, counts = "must have equal numbers of rows if they have no ids", f"{len(points)} and {len(truth)}"
            remedy = "Name the ids: columns.id, truth_columns.id."
            raise DataError.at("predictions and truth", rule, found=counts, remedy=remedy)
        log.warning("neither file has ids: predictions and truth are matched by row")
        numbers = [str(row) for row in range(1, len(true) + 1)]
        return true.assign(latitude=points["latitude"], longitude=points["longitude"], uuid=numbers), 0, 0

    if not all(has_ids):
        key = "truth_columns.id" if has_ids[0] else "columns.id"
        raise DataError.at(key, "must name the column of ids, because the other file has ids", found=None)

    table = true.merge(points.drop(columns="row"), on="uuid", how="inner", validate="one_to_one")
    similar = {_simplify_id(uuid) for uuid in points["uuid"]} & {_simplify_id(uuid) for uuid in truth["uuid"]}
    if len(similar) > len(table):
        count = len(similar) - len(table)
        log.warning("%d ids differ only in case, leading zeros, .0 or a suffix, and do not match", count)
    if table.empty:
        rule = f"must have ids in common; they begin with {points['uuid'][0]!r} and {truth['uuid'][0]!r}"
        remedy = "They differ in case, leading zeros, .0 or a suffix: write them alike." if similar else ""
        raise DataError.at("predictions and truth", rule, remedy=remedy)
    return table, len(truth) - len(table), len(points) - len(table)


def _simplify_id(uuid: str) -> str:
    """Returns an id without case, leading zeros, `.0` and image suffixes, in which programs may differ."""
    plain = re.sub(r"\.(jpg|jpeg|png|webp)$", "", uuid.lower().removesuffix(".0"))
    return plain.lstrip("0") or "0"


def check_units(predicted_deg: FloatArray, true_deg: FloatArray) -> None:
    """Raises DataError if (N, 2) predictions look like radians, or latitude and longitude look swapped."""
    error_km = haversine_km(predicted_deg, true_deg)
    mean_km, swapped_km = float(error_km.mean()), np.inf
    if np.abs(predicted_deg[:, 1]).max() <= MAX_DEGREES["latitude"]:
        swapped_km = float(haversine_km(predicted_deg[:, ::-1], true_deg).mean())
    if len(error_km) >= 2 and swapped_km < mean_km / SWAP_FACTOR:
        raise DataError(
            f"predictions look swapped: the mean error is {mean_km:,.0f} km, and {swapped_km:,.0f} km with "
            "latitude and longitude exchanged. Name the columns: columns.latitude=..., columns.longitude=..."
        )

    # All values are possible radians, and the truth does not lie near 0 N, 0 E, where radians would be right.
    could_be_radians = (np.abs(predicted_deg).max(axis=0) <= (np.pi / 2, np.pi)).all()
    median_km = float(np.median(error_km))
    if could_be_radians and np.abs(true_deg).max() > 4 * np.pi and median_km > MIN_RADIANS_ERROR_KM:
        raise DataError(
            f"predictions look like radians: none exceeds pi, and their median error is {median_km:,.0f} km. Add "
            "columns.units=radians, or give degrees."
        )
