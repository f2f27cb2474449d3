"""Plan in the database, and its copy plan.csv for other programs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

import numpy as np

from geoguesser.arrays import FloatArray
from geoguesser.collecting.database import Database
from geoguesser.collecting.output_tables import write_table
from geoguesser.errors import ConfigError, MissingFileError

PLAN_NAME = "plan.csv"


def count_points(database: Database) -> int:
    """Counts the points of the plan; 0 if there is no plan yet."""
    return int(database.query("SELECT count(*) FROM points")[0][0])


def check_plan_settings(database: Database, settings: dict[str, Any]) -> bool:
    """Checks the settings of the folder's plan, if there is one, and returns whether it has all requested points.

    Only the number of places may differ. A plan with more places than requested is kept as it is.

    Raises ConfigError if the plan was made with other settings.
    """
    old = database.get_settings("plan")
    if old is None:
        return False

    changed = sorted(key for key in old.keys() | settings.keys() if old.get(key) != settings.get(key))
    if changed in ([], ["places"]):
        return not changed or int(settings["places"]) <= int(old.get("places") or 0)
    raise ConfigError(
        f"out={database.folder} holds a plan made with {_format_change(changed[0], old, settings)}. Give "
        "the same settings (more places are added to the plan), or plan in another folder."
    )


def _format_change(key: str, old: dict[str, Any], new: dict[str, Any]) -> str:
    return f"{key}={old.get(key)!r}, got {new.get(key)!r}"


def record_provider(database: Database, name: str, view_settings: Mapping[str, Any]) -> None:
    """Records the provider of a folder and the settings of its views; a folder holds one kind of views only.

    Raises ConfigError if the folder has answers of another provider, or for other views.
    """
    settings = {"provider": name, **{f"provider.{key}": value for key, value in view_settings.items()}}
    old = database.get_settings("provider")
    (answered,) = database.query("SELECT count(*) FROM points WHERE state NOT IN ('planned', 'failed')")[0]

    # Before the first answer (for example after a wrong key) there is nothing that could be mixed.
    if old is None or not answered:
        statement = "INSERT OR REPLACE INTO meta VALUES ('provider', ?)"
        database.write(lambda db: db.execute(statement, (json.dumps(settings),)))
        return

    for key in sorted(old.keys() | settings.keys()):
        if old.get(key) != settings.get(key):
            raise ConfigError(
                f"out={database.folder} was collected with {_format_change(key, old, settings)}. "
                "Give the same, or collect into another folder: training reads several."
            )


def record_plan(database: Database, coords_deg: FloatArray, settings: dict[str, Any]) -> int:
    """Writes a plan of (N, 2) points, or the points that a longer plan adds, to the database and to plan.csv.

    `settings` are the settings of the plan. Returns the number of new points. Raises ConfigError if the
    plan does not begin with the points that are already in the database.
    """
    coords = np.round(coords_deg, 7)  # one centimetre
    rows = database.query("SELECT latitude, longitude FROM points ORDER BY id")
    old = np.array(rows, dtype=np.float64).reshape(-1, 2)
    if len(old) > len(coords) or not np.allclose(old, coords[: len(old)], rtol=0.0, atol=1e-9):
        raise ConfigError.at(
            "places", f"cannot be added to the {len(old)} points of out={database.folder}: these settings and "
            "this version give a different plan", remedy="Plan in another folder.",
        )  # fmt: skip

    def insert(db: sqlite3.Connection) -> None:
        new = ((number, *map(float, coords[number])) for number in range(len(old), len(coords)))
        db.executemany("INSERT INTO points (id, latitude, longitude) VALUES (?, ?, ?)", new)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('plan', ?)", (json.dumps(settings),))

    database.write(insert)
    write_plan(database)
    return len(coords) - len(old)


def write_plan(database: Database) -> None:
    """Writes plan.csv with the columns point, latitude and longitude."""
    rows = database.connection.execute(
        "SELECT id, printf('%.7f', latitude), printf('%.7f', longitude) FROM points ORDER BY id"
    )
    write_table(database.folder / PLAN_NAME, ("point", "latitude", "longitude"), rows)


def check_has_plan(database: Database) -> None:
    """Raises MissingFileError if the folder has no plan."""
    if not count_points(database):
        raise MissingFileError(
            f"out={database.folder} holds no plan yet. Make one first: step=plan, or step=all for all steps."
        )
