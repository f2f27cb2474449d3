"""CSV files of paths to photos, with a row per place or per photo. Paths never leave their root folder."""

from __future__ import annotations

import os
from pathlib import Path
from typing import NamedTuple, cast

import pandas as pd

from geoguesser.data.place_files import HEADINGS, PlaceFiles, ViewNames
from geoguesser.errors import DataError, MissingFileError
from geoguesser.system.tables import read_csv

ID_COLUMNS = ("uuid", "id", "place")
PATH_COLUMNS = ("path", "file", "image")
# Column name -> position of its heading.
HEADING_COLUMNS = {
    **{str(heading): position for position, heading in enumerate(HEADINGS)},
    **{"north": 0, "east": 1, "south": 2, "west": 3},
}
COLUMNS_RULE = (
    "must have a column for each heading (0, 90, 180, 270, or north, east, south, west) beside uuid, "
    "or a column path, with uuid and heading where photos belong together"
)


class ListedPhoto(NamedTuple):
    """Photo in a table: position in `HEADINGS`, path (empty if there is no view), and row for messages."""

    uuid: str
    position: int
    path: str
    row: str


def read_input_table(file: Path, root: str | None) -> list[tuple[str, PlaceFiles]]:
    """Reads the places of a CSV file.

    Args:
        file: Wide table with `uuid` and a column of paths per heading, empty if there is no view; or long table
            with `path`, and `uuid` and `heading` (0, 90, 180 or 270) if photos belong together.
        root: Folder that paths are relative to and must not leave; None for the folder of the file.

    Returns:
        Id and files of each place, in the order of first appearance.

    Raises:
        MissingFileError: `root` is no folder.
        DataError: The file cannot be read, lacks columns, or a row breaks a rule.
    """
    base = Path(root).expanduser() if root is not None else file.parent
    if not base.is_dir():
        raise MissingFileError.at("root", "must be the folder that a CSV file's paths start from", found=root)

    table = _read_table(file)
    headings = {name: position for name, position in HEADING_COLUMNS.items() if name in table}
    for name in table.columns:
        if name.removeprefix("-").isdecimal() and name not in HEADING_COLUMNS:
            raise DataError.at(f"{file}: column {name}", "must be a heading of 0, 90, 180 or 270", found=name)
    if len(set(headings.values())) < len(headings):
        raise DataError.at(str(file), "must name each heading once", found=sorted(headings))

    id_column = next((name for name in ID_COLUMNS if name in table), None)
    path_column = next((name for name in PATH_COLUMNS if name in table), None)
    rows = [{str(key): str(value).strip() for key, value in row.items()} for row in table.to_dict("records")]
    lines = [f"{file} row {line}" for line in range(2, len(table) + 2)]

    if headings and id_column is not None:
        photos = [
            ListedPhoto(row[id_column], position, row[name], line)
            for row, line in zip(rows, lines, strict=True)
            for name, position in headings.items()
        ]
    elif path_column is not None:
        photos = [_read_long_row(row, line, id_column, path_column) for row, line in zip(rows, lines, strict=True)]
    else:
        raise DataError.at(str(file), COLUMNS_RULE, found=list(table.columns))
    return _group_by_place(photos, str(base))


def _read_table(file: Path) -> pd.DataFrame:
    try:
        table = read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:
        # The errors of pandas are ValueErrors.
        raise DataError.at(str(file), f"must be a CSV file in UTF-8 ({str(error).strip()})") from error

    table.columns = [str(column).strip().lower() for column in table.columns]
    if len(table.columns) == 1 and ";" in table.columns[0]:
        raise DataError.at(str(file), "must be separated by commas, not by semicolons", found=table.columns[0])
    if table.columns.has_duplicates:
        raise DataError.at(str(file), "must name each column once", found=list(table.columns))
    return table


def _read_long_row(row: dict[str, str], line: str, id_column: str | None, path_column: str) -> ListedPhoto:
    # Without a heading a photo is the view to the north. Spreadsheets write headings as 90.0.
    heading = (row.get("heading", "0") or "0").removesuffix(".0")
    if heading not in HEADING_COLUMNS:
        raise DataError.at(f"{line}: heading", "must be 0, 90, 180 or 270", found=heading)
    uuid = row[id_column] if id_column is not None else Path(row[path_column]).stem
    return ListedPhoto(uuid, HEADING_COLUMNS[heading], row[path_column], line)


def _group_by_place(photos: list[ListedPhoto], base: str) -> list[tuple[str, PlaceFiles]]:
    names: dict[str, list[str | None]] = {}
    real_base = os.path.realpath(base)
    for photo in photos:
        if not photo.uuid:
            raise DataError.at(f"{photo.row}: uuid", "must not be empty")
        views = names.setdefault(photo.uuid, [None] * len(HEADINGS))
        if not photo.path:
            continue

        if views[photo.position] is not None:
            rule = f"names a second photo for heading {HEADINGS[photo.position]} of {photo.uuid}"
            remedy = "Name each view once. Without a column uuid the id is the file's name."
            raise DataError.at(photo.row, rule, found=photo.path, remedy=remedy)
        if "\x00" in photo.path:
            raise DataError.at(photo.row, "must name a file", found=photo.path)
        real_path = os.path.realpath(os.path.join(base, photo.path))
        if os.path.commonpath((real_path, real_base)) != real_base:
            remedy = "Name the folder that holds all of them, root=FOLDER, or correct the row."
            raise DataError.at(photo.row, f"names a file outside of {base}", found=photo.path, remedy=remedy)
        views[photo.position] = photo.path
    return [(uuid, PlaceFiles(base, cast(ViewNames, tuple(views)))) for uuid, views in names.items()]
