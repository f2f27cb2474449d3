"""Points: the plan as it stands in the journal, and as plan.csv for eyes and other programs."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from geoguesser.collecting.database import Journal
from geoguesser.collecting.output_tables import write_table
from geoguesser.errors import ConfigError, MissingFileError

PLAN = "plan.csv"
FloatArray = npt.NDArray[np.float64]


def planned(journal: Journal) -> int:
    """How many points the plan has, 0 where there is none yet."""
    return int(journal.rows("SELECT count(*) FROM points")[0][0])


def plan_settings(journal: Journal) -> dict[str, Any] | None:
    """What the plan was made from, None where there is none yet."""
    text = journal.meta("plan")
    return None if text is None else json.loads(text)


def check_same_plan(journal: Journal, settings: dict[str, Any]) -> bool:
    """Whether the folder's plan is the one that these settings make; False where points must be added.

    Raises:
        ConfigError: It was made from other settings.
    """
    found = plan_settings(journal)
    if found is None:
        return False
    differing = sorted(key for key in found.keys() | settings.keys() if found.get(key) != settings.get(key))
    if differing in ([], ["places"]):
        return not differing or int(settings["places"]) <= int(found["places"])
    key = differing[0]
    raise ConfigError(
        f"out={journal.folder} holds a plan made with {key}={found.get(key)!r}, got {settings.get(key)!r}. Give "
        "the same settings (more places are added to it), or plan in another folder."
    )


def keep_provider(journal: Journal, name: str, look: Mapping[str, Any]) -> None:
    """Notes who a folder's points are asked of and what its views are made with: it holds one kind only.

    Raises:
        ConfigError: Another provider, or other views, were there first, and a point was answered.
    """
    given = {"provider": name, **{f"provider.{key}": value for key, value in look.items()}}
    text = journal.meta("provider")
    (answered,) = journal.rows("SELECT count(*) FROM points WHERE state NOT IN ('planned', 'failed')")[0]
    if text is None or not answered:  # a wrong key, say: nothing is there that could be mixed
        words = "INSERT OR REPLACE INTO meta VALUES ('provider', ?)"
        journal.change(lambda db: db.execute(words, (json.dumps(given),)))
        return
    found = json.loads(text)
    for key in sorted(found.keys() | given.keys()):
        if found.get(key) != given.get(key):
            raise ConfigError(
                f"out={journal.folder} was collected with {key}={found.get(key)!r}, got {given.get(key)!r}. Give "
                "the same, or collect into another folder: training takes several."
            )


def keep_plan(journal: Journal, coords_deg: FloatArray, settings: dict[str, Any]) -> int:
    """Writes a plan into the journal, or the points that a longer one adds, and plan.csv.

    Args:
        journal: Where.
        coords_deg: (N, 2) all its points.
        settings: What it was made from.

    Returns:
        How many points are new.

    Raises:
        ConfigError: The points that are there are no beginning of it.
    """
    coords = np.round(coords_deg, 7)  # a centimetre
    rows = journal.rows("SELECT latitude, longitude FROM points ORDER BY id")
    old = np.array(rows, dtype=np.float64).reshape(-1, 2)
    if len(old) > len(coords) or not np.allclose(old, coords[: len(old)], rtol=0.0, atol=1e-9):
        raise ConfigError.at(
            "places", f"cannot be added to the {len(old)} points of out={journal.folder}: with these settings and "
            "this version the plan would be another one", remedy="Plan in another folder.",
        )  # fmt: skip

    def work(db: sqlite3.Connection) -> None:
        new = ((number, *map(float, coords[number])) for number in range(len(old), len(coords)))
        db.executemany("INSERT INTO points (id, latitude, longitude) VALUES (?, ?, ?)", new)
        db.execute("INSERT OR REPLACE INTO meta VALUES ('plan', ?)", (json.dumps(settings),))

    journal.change(work)
    write_plan(journal)
    return len(coords) - len(old)


def write_plan(journal: Journal) -> Path:
    """Writes plan.csv: point, latitude, longitude."""
    path = journal.folder / PLAN
    rows = journal.db.execute(
        "SELECT id, printf('%.7f', latitude), printf('%.7f', longitude) FROM points ORDER BY id"
    )
    write_table(path, ("point", "latitude", "longitude"), rows)
    return path


def check_planned(journal: Journal) -> int:
    """How many points there are.

    Raises:
        MissingFileError: None.
    """
    if not (count := planned(journal)):
        raise MissingFileError(
            f"out={journal.folder} holds no plan yet. Make one first: step=plan, or step=all for all steps."
        )
    return count
