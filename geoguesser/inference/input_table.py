"""Input table: a CSV file of paths to photos, a row per place or per photo. Paths never leave their root."""

from __future__ import annotations

import os
from pathlib import Path

import pandas as pd

from geoguesser.data.place_files import HEADINGS, PlaceFiles, ViewNames
from geoguesser.errors import DataError, MissingFileError

IDS = ("uuid", "id", "place")
PATHS = ("path", "file", "image")
BY_HEADING = {
    **{str(heading): at for at, heading in enumerate(HEADINGS)},
    **{word: at for at, word in enumerate(("north", "east", "south", "west"))},
}
RULE = (
    "must have a column for each heading (0, 90, 180, 270, or north, east, south, west) beside uuid, "
    "or a column path, with uuid and heading where photos belong together"
)


def read_input_table(file: Path, root: str | None) -> list[tuple[str, PlaceFiles]]:
    """Reads the places that a CSV file lists.

    Args:
        file: Either wide: uuid and a column of paths for each heading, empty where there is no view. Or long: a
            column `path`, and where photos belong together `uuid` and `heading` (0, 90, 180 or 270).
        root: The folder that paths start from and must not leave; None for the file's own.

    Returns:
        Id and files of each place, in the order in which they first appear.

    Raises:
        MissingFileError: `root` is no folder.
        DataError: It cannot be read, lacks columns, or a row breaks a rule.
    """
    base = Path(root).expanduser() if root is not None else file.parent
    if not base.is_dir():
        raise MissingFileError.at("root", "must be the folder that a CSV file's paths start from", found=root)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except (ValueError, OSError) as error:  # pandas' own errors are ValueErrors
        raise DataError.at(str(file), f"must be a CSV file in UTF-8 ({str(error).strip()})") from error
    table.columns = [str(column).strip().lower() for column in table.columns]
    if len(table.columns) == 1 and ";" in table.columns[0]:
        raise DataError.at(str(file), "must be separated by commas, not by semicolons", found=table.columns[0])
    if table.columns.has_duplicates:
        raise DataError.at(str(file), "must name each column once", found=list(table.columns))
    table["row"] = [f"{file} row {line}" for line in range(2, len(table) + 2)]
    ids = next((name for name in IDS if name in table), None)
    wide = {name: at for name, at in BY_HEADING.items() if name in table}
    path = next((name for name in PATHS if name in table), None)
    odd = [name for name in table.columns if name.removeprefix("-").isdecimal() and name not in BY_HEADING]
    if odd:
        raise DataError.at(f"{file}: column {odd[0]}", "must be a heading of 0, 90, 180 or 270", found=odd[0])
    if len(set(wide.values())) < len(wide):
        raise DataError.at(str(file), "must name each heading once", found=sorted(wide))
    if wide and ids is not None:
        found = [(row[ids], at, row[name], row["row"]) for row in _dicts(table) for name, at in wide.items()]
    elif path is not None:
        found = _long(table, ids, path)
    else:
        raise DataError.at(str(file), RULE, found=[name for name in table.columns if name != "row"])
    return _places(found, str(base))


def _dicts(table: pd.DataFrame) -> list[dict[str, str]]:
    return [{str(key): str(value).strip() for key, value in row.items()} for row in table.to_dict("records")]


def _long(table: pd.DataFrame, ids: str | None, path: str) -> list[tuple[str, int, str, str]]:
    """Id, number of the heading, path and row of each photo; without headings each is a view to the north."""
    found = []
    for row in _dicts(table):
        heading = (row.get("heading", "0") or "0").removesuffix(".0")
        if heading not in BY_HEADING:
            allowed = "0, 90, 180 or 270"
            raise DataError.at(f"{row['row']}: heading", f"must be {allowed}", found=heading)
        uuid = row[ids] if ids is not None else Path(row[path]).stem
        found.append((uuid, BY_HEADING[heading], row[path], row["row"]))
    return found


def _places(found: list[tuple[str, int, str, str]], base: str) -> list[tuple[str, PlaceFiles]]:
    names: dict[str, list[str | None]] = {}
    real = os.path.realpath(base)
    for uuid, at, path, row in found:
        if not uuid:
            raise DataError.at(f"{row}: uuid", "must not be empty")
        own = names.setdefault(uuid, [None] * len(HEADINGS))
        if not path:
            continue
        if own[at] is not None:
            where = f"for heading {HEADINGS[at]} of {uuid}"
            remedy = "Name each view once. Without a column uuid the id is the file's name."
            raise DataError.at(row, f"names a second photo {where}", found=path, remedy=remedy)
        if "\x00" in path:
            raise DataError.at(row, "must name a file", found=path)
        whole = os.path.realpath(os.path.join(base, path))
        if os.path.commonpath((whole, real)) != real:
            raise DataError.at(
                row, f"names a file outside of {base}", found=path,
                remedy="Name the folder that holds all of them, root=FOLDER, or correct the row.",
            )  # fmt: skip
        own[at] = path
    return [(uuid, PlaceFiles(base, _as_names(own))) for uuid, own in names.items()]


def _as_names(own: list[str | None]) -> ViewNames:
    return own[0], own[1], own[2], own[3]
