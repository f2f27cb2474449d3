"""Writes data.csv of the completed places and other CSV files, and reads the tables of other datasets."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from geoguesser.collecting.database import Database
from geoguesser.collecting.output_files import convert_write_errors
from geoguesser.data.place_files import NO_PANORAMA, PANORAMA_COLUMNS
from geoguesser.errors import DataError, StoreError, first_line
from geoguesser.system.files import open_replacement
from geoguesser.system.received_files import open_regular
from geoguesser.system.tables import MAX_FILE_BYTES

PLACES_FILE = "data.csv"
OTHER_FOLDER_REMEDY = "Choose another folder with out=FOLDER. Training can read both: data.roots=[A,B]."
PLACE_COLUMNS = ("uuid", "latitude", "longitude", "panorama_id", "date", "copyright", "provider")


def write_places_table(database: Database) -> int:
    """Writes data.csv of the complete places in the order of their planned points, and returns their number."""
    rows = database.connection.execute(
        "SELECT uuid, printf('%.7f', latitude), printf('%.7f', longitude), panorama_id, date, copyright, provider "
        "FROM places WHERE state = 'done' ORDER BY point, id"
    )
    return write_table(database.folder / PLACES_FILE, PLACE_COLUMNS, rows)


def check_table_columns(folder: Path, columns: tuple[str, ...]) -> None:
    """Refuses to overwrite a data.csv that something else wrote, recognised by its columns.

    Raises StoreError if data.csv exists and has other columns.
    """
    path = folder / PLACES_FILE
    if not path.exists():
        return
    try:
        with path.open(encoding="utf-8-sig") as stream:
            header = stream.readline().strip()
    except (OSError, UnicodeDecodeError):
        header = ""
    if header != ",".join(columns):
        raise StoreError.at(
            str(path), "was not written by this command and would be overwritten", remedy=OTHER_FOLDER_REMEDY
        )  # fmt: skip


def read_place_rows(path: Path, where: str) -> Iterator[tuple[float, float, str]]:
    """Yields latitude, longitude and panorama id (empty if unknown) of each row of a dataset's data.csv.

    Raises DataError if it is not a CSV file, or a row has no valid position. Such a row is not skipped, because
    another place could then be collected at its position. The message begins with `where`.
    """
    try:
        with io.TextIOWrapper(open_regular(path, MAX_FILE_BYTES), encoding="utf-8-sig", newline="") as stream:
            reader = csv.DictReader(stream, restval="")
            header = list(reader.fieldnames or ())
            reader.fieldnames = [name.strip().lower() for name in header]
            if not {"latitude", "longitude"} <= set(reader.fieldnames):
                raise DataError.at(where, "must have the columns latitude and longitude", found=header)

            for line, row in enumerate(reader, start=2):
                try:
                    latitude, longitude = float(row["latitude"]), float(row["longitude"])
                    is_valid = abs(latitude) <= 90 and abs(longitude) <= 180
                except ValueError:
                    is_valid = False
                if not is_valid:
                    raise DataError.at(
                        f"{where} row {line}", "must have a latitude within 90 and a longitude within 180 degrees",
                        found=(row["latitude"], row["longitude"]), remedy="Correct or remove the row.",
                    )  # fmt: skip

                ids = (row.get(name, "").strip() for name in PANORAMA_COLUMNS)
                yield latitude, longitude, next((i for i in ids if i and i.lower() not in NO_PANORAMA), "")
    except DataError:
        raise
    except (ValueError, csv.Error, OSError) as error:
        raise DataError.at(where, f"must be a CSV file in UTF-8 ({first_line(error)})") from error


def write_table(path: Path, columns: tuple[str, ...], rows: Iterable[tuple[Any, ...]]) -> int:
    """Writes an iterator's rows as CSV and returns their number; this process must have locked the folder.

    Unlike `system.files.write_csv`, it needs no table in memory and flushes the file to the disk.
    """
    count = 0
    with convert_write_errors(path), open_replacement(path, "w", durable=True, exclusive=True) as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(columns)
        for row in rows:
            writer.writerow(row)
            count += 1
    return count
