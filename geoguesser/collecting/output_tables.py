"""Tables: data.csv of the places that are done, and other CSV files, each written in one step and row by row."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from geoguesser.collecting.database import Journal
from geoguesser.collecting.output_files import flush_folder
from geoguesser.errors import StoreError

TABLE = "data.csv"
COLUMNS = ("uuid", "latitude", "longitude", "panorama_id", "date", "copyright", "provider")


def write_places(journal: Journal) -> int:
    """Writes data.csv: the places all of whose views are whole on disk, in the order of their points.

    Returns:
        How many there are.
    """
    rows = journal.db.execute(
        "SELECT uuid, printf('%.7f', latitude), printf('%.7f', longitude), panorama_id, date, copyright, provider "
        "FROM places WHERE state = 'done' ORDER BY point, id"
    )
    return write_table(journal.folder / TABLE, COLUMNS, rows)


def check_own(folder: Path, columns: tuple[str, ...]) -> None:
    """Refuses a folder whose data.csv has other columns than ours: it would be written over.

    Raises:
        StoreError: It is the table of a dataset that came from elsewhere.
    """
    path = folder / TABLE
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8-sig") as stream:
            first = stream.readline().strip()
    except (OSError, UnicodeDecodeError):
        first = ""
    if first != ",".join(columns):
        raise StoreError.at(
            str(path), "was not written by this step, which would write over it",
            remedy="Name another out: training takes several folders.",
        )  # fmt: skip


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> int:
    """Writes a CSV file so that it is there whole or as it was.

    Returns:
        How many rows it has.

    Raises:
        StoreError: The disk is full, or the like.
    """
    part = path.with_name(f".{path.name}.part")
    count = 0
    try:
        with part.open("w", encoding="utf-8", newline="") as stream:
            writer = csv.writer(stream, lineterminator="\n")
            writer.writerow(columns)
            for row in rows:
                writer.writerow(row)
                count += 1
            stream.flush()
            os.fsync(stream.fileno())
        part.replace(path)
        flush_folder(path.parent)
    except OSError as error:
        raise StoreError.at(str(path), f"cannot be written ({error.strerror or error})") from error
    return count
