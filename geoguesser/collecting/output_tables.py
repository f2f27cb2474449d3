"""data.csv of the completed places, and the writing of other CSV files."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geoguesser.collecting.database import Database
from geoguesser.errors import StoreError
from geoguesser.system.files import open_replacement

TABLE_NAME = "data.csv"
PLACE_COLUMNS = ("uuid", "latitude", "longitude", "panorama_id", "date", "copyright", "provider")


def write_places_table(database: Database) -> int:
    """Writes data.csv: the places with all views complete on disk, in the order of their points.

    Returns:
        Number of places.
    """
    rows = database.db.execute(
        "SELECT uuid, printf('%.7f', latitude), printf('%.7f', longitude), panorama_id, date, copyright, provider "
        "FROM places WHERE state = 'done' ORDER BY point, id"
    )
    return write_table(database.folder / TABLE_NAME, PLACE_COLUMNS, rows)


def check_table_columns(folder: Path, columns: tuple[str, ...]) -> None:
    """Checks that a folder's data.csv, if there is one, has the given columns, because it will be overwritten.

    Raises:
        StoreError: It is the table of a dataset from elsewhere.
    """
    path = folder / TABLE_NAME
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8-sig") as stream:
            header = stream.readline().strip()
    except (OSError, UnicodeDecodeError):
        header = ""
    if header != ",".join(columns):
        raise StoreError.at(
            str(path), "was not written by this step, which would overwrite it",
            remedy="Name another out: training reads several folders.",
        )  # fmt: skip


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> int:
    """Writes a CSV file atomically and flushes it to the disk.

    Args:
        path: CSV file in a folder that this process has locked.
        columns: Names of the columns.
        rows: Rows, written one at a time.

    Returns:
        Number of rows.

    Raises:
        StoreError: The file cannot be written, for example because the disk is full.
    """
    count = 0
    try:
        with open_replacement(path, "w", durable=True, exclusive=True) as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                writer.writerow(row)
                count += 1
    except OSError as error:
        raise StoreError.at(str(path), f"cannot be written ({error.strerror or error})") from error
    return count
