"""Filters that select places among the panoramas found: by date, copyright, and distance from other places.

Filtering sends no request, so other filters can be applied to the same database at no cost. Places are visited in
the order of their points, so that the result does not depend on the order of the answers. Completed places are
kept.
"""

from __future__ import annotations

import math
import re
import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from geoguesser.collecting.output_tables import read_place_rows
from geoguesser.errors import ConfigError, MissingFileError, check_mapping, check_number
from geoguesser.geo.distance import MIN_METRES_PER_DEGREE, geodesic_m

MONTH = re.compile(r"\d{4}-(0[1-9]|1[0-2])")

# From this latitude on, a place of any longitude may be near.
NEAR_POLE_DEG = 89.0

SELECTION_BATCH_SIZE = 1000


@dataclass(frozen=True)
class Filters:
    """The node `filters` of conf/collect.yaml, which describes the values.

    `first` and `last` are months `YYYY-MM`, empty for no limit; `existing` are tables (data.csv) of datasets.
    """

    first: str
    last: str
    allow: tuple[re.Pattern[str], ...]
    deny: tuple[re.Pattern[str], ...]
    min_distance_m: float
    existing: tuple[Path, ...]

    @classmethod
    def from_config(cls, node: Any) -> Filters:
        """Reads the node; raises ConfigError, MissingFileError or DataError for a value that breaks a rule."""
        keys = ("from", "to", "copyright_allow", "copyright_deny", "min_distance_m", "existing")
        values = check_mapping("filters", node, keys)

        first, last = (_parse_month(f"filters.{key}", values[key]) for key in keys[:2])
        if first and last and first > last:
            raise ConfigError.at("filters.from", "must not be later than filters.to", found=f"{first} and {last}")

        tables = []
        for number, folder in enumerate(_check_strings("filters.existing", values["existing"])):
            path = Path(folder).expanduser() / "data.csv"
            if not path.is_file():
                raise MissingFileError.at(f"filters.existing[{number}]", "must hold a file data.csv", found=folder)
            tables.append(path)
            # All rows are read once here, so that a malformed one is reported before any request is sent.
            for _ in read_place_rows(path, str(path)):
                pass

        allow, deny = (_compile_patterns(f"filters.{key}", values[key]) for key in keys[2:4])
        distance_m = check_number("filters.min_distance_m", values["min_distance_m"], low=0.0, high=100_000.0)
        return cls(first, last, allow, deny, distance_m, tuple(tables))

    def find_rejection(self, date: str, copyright_notice: str) -> str:
        """Returns the reason to reject a panorama by date or copyright notice; an empty string if accepted."""
        if (self.first or self.last) and not MONTH.fullmatch(date):
            return "no_date"
        if self.first and date < self.first:
            return "too_old"
        if self.last and date > self.last:
            return "too_new"
        is_allowed = not self.allow or any(pattern.search(copyright_notice) for pattern in self.allow)
        is_denied = any(pattern.search(copyright_notice) for pattern in self.deny)
        return "" if is_allowed and not is_denied else "copyright"


def mark_places(db: sqlite3.Connection, filters: Filters) -> None:
    """Marks each place that is not done as `wanted` or `dropped`, within the caller's transaction.

    Places without imagery at the provider stay dropped.
    """
    # Positions that selected places must keep their distance from, in an indexed table instead of memory.
    db.execute("CREATE TEMP TABLE IF NOT EXISTS others (latitude REAL, longitude REAL, panorama_id TEXT)")
    db.execute("CREATE INDEX IF NOT EXISTS temp.others_by_latitude ON others (latitude)")
    db.execute("CREATE INDEX IF NOT EXISTS temp.others_by_id ON others (panorama_id)")
    db.execute("DELETE FROM others")
    for table in filters.existing:
        db.executemany("INSERT INTO others VALUES (?, ?, ?)", read_place_rows(table, str(table)))

    final = "state = 'done' OR (state = 'dropped' AND why LIKE 'view:%')"
    db.execute(f"UPDATE places SET state = 'found', why = '' WHERE NOT ({final})")
    db.execute("INSERT INTO others SELECT latitude, longitude, '' FROM places WHERE state = 'done'")

    last = -1
    while rows := db.execute(
        "SELECT id, point, latitude, longitude, date, copyright, panorama_id FROM places "
        "WHERE state = 'found' AND point > ? ORDER BY point LIMIT ?", (last, SELECTION_BATCH_SIZE),
    ).fetchall():  # fmt: skip
        for place, point, latitude, longitude, date, copyright_notice, panorama_id in rows:
            last = point
            reason = filters.find_rejection(date, copyright_notice) or _find_conflict(
                db, filters.min_distance_m, latitude, longitude, panorama_id
            )
            state = "dropped" if reason else "wanted"
            db.execute("UPDATE places SET state = ?, why = ? WHERE id = ?", (state, reason, place))
            if not reason:
                db.execute("INSERT INTO others VALUES (?, ?, '')", (latitude, longitude))


def _find_conflict(
    db: sqlite3.Connection, min_distance_m: float, latitude: float, longitude: float, panorama_id: str
) -> str:
    """Returns the reason why another place excludes this one; an empty string if none does."""
    if db.execute("SELECT 1 FROM others WHERE panorama_id = ?", (panorama_id,)).fetchone():
        return "in_existing"
    if min_distance_m <= 0:
        return ""

    # The query selects a box in degrees that encloses the circle, with 0.1 % as a margin for rounding. A meridian
    # degree is shortest at the equator. Circles of latitude are shortest at the edge of the box nearest to a pole.
    # Two further conditions handle boxes across the 180th meridian.
    height = 1.001 * min_distance_m / MIN_METRES_PER_DEGREE
    top = abs(latitude) + height
    width = height / math.cos(math.radians(top)) if top < NEAR_POLE_DEG else 360.0
    nearby = db.execute(
        "SELECT latitude, longitude FROM others WHERE latitude BETWEEN ? AND ? "
        "AND (longitude BETWEEN ? AND ? OR longitude < ? OR longitude > ?)",
        (latitude - height, latitude + height, longitude - width, longitude + width, longitude + width - 360.0,
         longitude - width + 360.0),
    ).fetchall()  # fmt: skip
    if not nearby:
        return ""

    return "too_near" if min(geodesic_m((latitude, longitude), nearby)) < min_distance_m else ""


def _parse_month(key: str, value: Any) -> str:
    if value is None:
        return ""
    if not MONTH.fullmatch(str(value)):
        raise ConfigError.at(key, "must be a month as YYYY-MM, or null", found=value)
    return str(value)


def _check_strings(key: str, value: Any) -> list[str]:
    if value is None:
        return []
    if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
        raise ConfigError.at(key, "must be a list of words", found=value, remedy=f"For one word: '{key}=[WORD]'.")
    return value


def _compile_patterns(key: str, value: Any) -> tuple[re.Pattern[str], ...]:
    patterns = []
    for text in _check_strings(key, value):
        try:
            patterns.append(re.compile(text, re.IGNORECASE))
        except re.error as error:
            raise ConfigError.at(key, f"must be a regular expression ({error})", found=text) from error
    return tuple(patterns)
