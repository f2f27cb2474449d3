"""Filters: which of the panoramas found become places. By date, by copyright, by distance from others.

Nothing is asked for here, so other filters over the same journal cost nothing. The order is that of the points, so
the outcome does not depend on which answer came first. Places that are done stay.
"""

from __future__ import annotations

import csv
import math
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyproj

from geoguesser.data.place_files import NO_PANORAMA, PANORAMA_COLUMNS
from geoguesser.errors import ConfigError, DataError, MissingFileError, check_mapping, check_number, first_line

MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")
METRES_PER_DEGREE = 110_574.0  # of latitude at the equator, where it is least
NEAR_POLE_DEG = 89.0  # beyond it any longitude may be near
WGS84 = pyproj.Geod(ellps="WGS84")
BATCH = 1000


@dataclass(frozen=True)
class Filters:
    """What a panorama must be like; the config's `filters`.

    Attributes:
        first: Its month at least, `YYYY-MM`, or empty.
        last: Its month at most, or empty.
        allow: One of these must be found in its copyright, where there are any.
        deny: None of these may be.
        min_distance_m: From all other places, 0 for any.
        existing: Folders of datasets (with data.csv) whose places count as others.
    """

    first: str
    last: str
    allow: tuple[re.Pattern[str], ...]
    deny: tuple[re.Pattern[str], ...]
    min_distance_m: float
    existing: tuple[Path, ...]

    @classmethod
    def of(cls, node: Any) -> Filters:
        """From the config.

        Raises:
            ConfigError: A value breaks a rule.
            MissingFileError: A dataset has no data.csv.
            DataError: One is no table, or a row of it has no position.
        """
        names = ("from", "to", "copyright_allow", "copyright_deny", "min_distance_m", "existing")
        given = check_mapping("filters", node, names)
        first, last = (_month(f"filters.{key}", given[key]) for key in ("from", "to"))
        if first and last and first > last:
            raise ConfigError.at("filters.from", "must not be later than filters.to", found=f"{first} and {last}")
        tables = []
        for number, folder in enumerate(_list("filters.existing", given["existing"])):
            path = Path(folder).expanduser() / "data.csv"
            if not path.is_file():
                raise MissingFileError.at(f"filters.existing[{number}]", "must hold a file data.csv", found=folder)
            tables.append(path)
        for _ in _existing(tuple(tables)):  # all that is bad is found before anything is asked
            pass
        return cls(
            first,
            last,
            _patterns("filters.copyright_allow", given["copyright_allow"]),
            _patterns("filters.copyright_deny", given["copyright_deny"]),
            check_number("filters.min_distance_m", given["min_distance_m"], low=0.0, high=100_000.0),
            tuple(tables),
        )

    def why_not(self, date: str, owner: str) -> str:
        """Why a panorama is left out by what it says of itself; empty where it is not."""
        if (self.first or self.last) and not MONTH.fullmatch(date):
            return "no_date"
        if self.first and date < self.first:
            return "too_old"
        if self.last and date > self.last:
            return "too_new"
        if self.allow and not any(one.search(owner) for one in self.allow):
            return "copyright"
        if any(one.search(owner) for one in self.deny):
            return "copyright"
        return ""


def choose(db: sqlite3.Connection, filters: Filters) -> Counter[str]:
    """Marks each place that is not done as `wanted` or `dropped`, within a transaction.

    Places that a provider has no imagery of stay dropped.

    Returns:
        How many were dropped, by why.
    """
    db.execute("CREATE TEMP TABLE IF NOT EXISTS others (latitude REAL, longitude REAL, panorama_id TEXT)")
    db.execute("CREATE INDEX IF NOT EXISTS temp.others_by_latitude ON others (latitude)")
    db.execute("CREATE INDEX IF NOT EXISTS temp.others_by_id ON others (panorama_id)")
    db.execute("DELETE FROM others")
    db.executemany("INSERT INTO others VALUES (?, ?, ?)", _existing(filters.existing))
    final = "state = 'done' OR (state = 'dropped' AND why LIKE 'view:%')"
    db.execute(f"UPDATE places SET state = 'found', why = '' WHERE NOT ({final})")
    db.execute("INSERT INTO others SELECT latitude, longitude, '' FROM places WHERE state = 'done'")
    dropped: Counter[str] = Counter()
    last = -1
    while rows := db.execute(
        "SELECT id, point, latitude, longitude, date, copyright, panorama_id FROM places "
        "WHERE state = 'found' AND point > ? ORDER BY point LIMIT ?", (last, BATCH),
    ).fetchall():  # fmt: skip
        for place, point, latitude, longitude, date, owner, panorama_id in rows:
            last = point
            why = filters.why_not(date, owner) or _taken(
                db, filters.min_distance_m, latitude, longitude, panorama_id
            )
            state = "dropped" if why else "wanted"
            db.execute("UPDATE places SET state = ?, why = ? WHERE id = ?", (state, why, place))
            if why:
                dropped[why] += 1
            else:
                db.execute("INSERT INTO others VALUES (?, ?, '')", (latitude, longitude))
    return dropped


def _taken(db: sqlite3.Connection, least_m: float, latitude: float, longitude: float, panorama_id: str) -> str:
    if db.execute("SELECT 1 FROM others WHERE panorama_id = ?", (panorama_id,)).fetchone():
        return "in_existing"
    if least_m <= 0:
        return ""
    tall = 1.001 * least_m / METRES_PER_DEGREE
    top = abs(latitude) + tall
    wide = tall / math.cos(math.radians(top)) if top < NEAR_POLE_DEG else 360.0
    near = db.execute(
        "SELECT latitude, longitude FROM others WHERE latitude BETWEEN ? AND ? "
        "AND (longitude BETWEEN ? AND ? OR longitude < ? OR longitude > ?)",
        (latitude - tall, latitude + tall, longitude - wide, longitude + wide, longitude + wide - 360.0,
         longitude - wide + 360.0),
    ).fetchall()  # fmt: skip
    if not near:
        return ""
    latitudes, longitudes = zip(*near, strict=True)
    _, _, metres = WGS84.inv([longitude] * len(near), [latitude] * len(near), longitudes, latitudes)
    return "too_near" if min(metres) < least_m else ""


def _existing(tables: tuple[Path, ...]) -> Iterator[tuple[float, float, str]]:
    """Coordinates and panorama id of each row; a bad row is an error, for it could let a duplicate in."""
    for table in tables:
        try:
            with table.open(encoding="utf-8-sig", newline="") as stream:
                reader = csv.DictReader(stream)
                names = {str(name).strip().lower() for name in reader.fieldnames or ()}
                if not names >= {"latitude", "longitude"}:
                    raise DataError.at(
                        str(table), "must have the columns latitude and longitude", found=reader.fieldnames or []
                    )
                for line, row in enumerate(reader, start=2):
                    yield _row(table, line, row)
        except (UnicodeDecodeError, csv.Error, OSError) as error:
            raise DataError.at(str(table), f"must be a CSV file in UTF-8 ({first_line(error)})") from error


def _row(table: Path, line: int, row: dict[str, Any]) -> tuple[float, float, str]:
    words = {str(key).strip().lower(): str(value or "").strip() for key, value in row.items() if key}
    try:
        latitude, longitude = float(words["latitude"]), float(words["longitude"])
        if not (abs(latitude) <= 90 and abs(longitude) <= 180):
            raise ValueError
    except ValueError:
        raise DataError.at(
            f"{table} row {line}", "must have a latitude within 90 and a longitude within 180 degrees",
            found=(words["latitude"], words["longitude"]), remedy="Mend or remove the row.",
        ) from None  # fmt: skip
    names = (words[name] for name in PANORAMA_COLUMNS if words.get(name))
    return latitude, longitude, next((name for name in names if name.lower() not in NO_PANORAMA), "")


def _month(key: str, value: Any) -> str:
    if value is None:
        return ""
    if not MONTH.fullmatch(str(value)):
        raise ConfigError.at(key, "must be a month as YYYY-MM, or null", found=value)
    return str(value)


def _list(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(one, str) and one for one in value):
        raise ConfigError.at(key, "must be a list of words", found=value, remedy=f"For one word: '{key}=[WORD]'.")
    return value


def _patterns(key: str, value: Any) -> tuple[re.Pattern[str], ...]:
    found = []
    for text in _list(key, value):
        try:
            found.append(re.compile(text, re.IGNORECASE))
        except re.error as error:
            raise ConfigError.at(key, f"must be a regular expression ({error})", found=text) from error
    return tuple(found)
