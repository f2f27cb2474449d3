"""Reads the table of places from one or several roots, which are folders of places.

Each defect of a row or folder is recorded as a finding, whose kind decides whether it stops the command, drops the
place or is only noted. A root holds `data.csv` (uuid, latitude, longitude) and
`images/<uuid>/{0,90,180,270}.jpg`. It may be sorted into train, val and test: `images/train/<uuid>`,
`train/<uuid>` or `train/images/<uuid>`, with one `data.csv` in each of these folders or one in the root.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd

from geoguesser.arrays import FloatArray
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.place_files import (
    HEADINGS,
    PlaceFiles,
    check_inside,
    find_image_folders,
    list_names,
    split_folders,
)
from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.geo.region import Region
from geoguesser.system import tables
from geoguesser.system.received_files import is_plain_name

REQUIRED_COLUMNS = ("uuid", "latitude", "longitude")

# Positions farther than this from the region's land are mistakes. Boats and islets are nearer.
DEFAULT_FAR_KM = 300.0


def read_places(
    roots: Iterable[str],
    region: Region,
    findings: Findings,
    *,
    far_km: float = DEFAULT_FAR_KM,
    allow_missing_views: bool = False,
) -> pd.DataFrame:
    """Reads and checks the places of all roots.

    Findings are added to `findings`, which defines the action for each kind; places more than `far_km` from the
    region's land are among them. With `allow_missing_views`, places with one to three views are kept.

    Returns:
        One row per place: uuid, latitude, longitude (degrees), folder (of its views), names (of its files by
        heading), folder_split (train, val, test or empty), root, row (text `FILE row LINE`, for messages), and the
        other columns of the CSV files.

    Raises:
        ConfigError: `data.roots` is empty or names a folder twice.
        MissingFileError: A root or its data.csv is missing.
        DataError: A column is missing, an id is not a plain folder name, or a finding has the action `error`.
    """
    if not isinstance(roots, list | tuple) or not roots:
        raise ConfigError.at(
            "data.roots", "must name at least one folder", found=roots, remedy="For example 'data.roots=[A,B]'."
        )

    paths = [str(root) for root in roots]
    real_paths = [os.path.realpath(Path(root).expanduser()) for root in paths]
    repeated = [root for index, root in enumerate(paths) if real_paths[index] in real_paths[:index]]
    if repeated:
        raise ConfigError.at("data.roots", "must name each folder once", found=repeated[0])

    parts = []
    for index, root in enumerate(paths):
        try:
            parts.append(_read_root(root, index, findings, allow_missing_views))
        # It is an OSError too.
        except MissingFileError:
            raise
        except OSError as error:
            name = f"data.roots[{index}] {error.filename or root}"
            raise DataError.at(name, f"cannot be read ({error.strerror or error})") from error

    table = drop_repeated_ids(pd.concat(parts).reset_index(drop=True), findings)
    return drop_far_places(table, region, findings, far_km)


def get_coords(table: pd.DataFrame) -> FloatArray:
    """Returns (N, 2) latitude and longitude in degrees of a table of places."""
    return table[["latitude", "longitude"]].to_numpy(dtype=np.float64)


def list_files(table: pd.DataFrame) -> list[PlaceFiles]:
    """Returns (N,) the files of each place of a table."""
    return [PlaceFiles(folder, names) for folder, names in zip(table["folder"], table["names"], strict=True)]


def _read_root(name: str, index: int, findings: Findings, allow_missing_views: bool) -> pd.DataFrame:
    root = Path(name).expanduser()
    if not root.is_dir():
        raise MissingFileError.at(f"data.roots[{index}]", "must be a folder", found=name)

    # One data.csv in the root describes all splits; otherwise each split has one.
    folders = [folder for folder, _ in (*split_folders(root), *split_folders(root / "images"))]
    files = [root / "data.csv"] if (root / "data.csv").is_file() else [folder / "data.csv" for folder in folders]
    files = [file for file in files if file.is_file()]
    if not files:
        raise MissingFileError.at(
            f"data.roots[{index}] {root}", "must hold a file data.csv", remedy="See docs/data.md."
        )

    table = pd.concat([read_place_table(file, findings) for file in files], ignore_index=True)
    return _add_folders(table, root, findings, allow_missing_views)


def read_place_table(file: Path, findings: Findings) -> pd.DataFrame:
    """Reads the places of a CSV file; rows with bad coordinates become findings.

    `findings.ids` receives the ids of all rows, so that `prepare` can report places of a store that no root
    contains any more.

    Returns one row per place: the columns of the file as text, the coordinates as numbers, and `row`.

    Raises DataError if it is not a CSV file in UTF-8, a column is missing, or an id is not a plain folder name.
    """
    # Blank lines are read, so that the number of a row is the number of its line.
    try:
        table = tables.read_csv(file, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except ValueError as error:
        raise DataError.at(str(file), f"must be a CSV file in UTF-8 ({str(error).strip()})") from error

    # pandas takes the first field of each row for an index if the header has fewer fields.
    if len(table) and not isinstance(table.index, pd.RangeIndex):
        raise DataError.at(
            str(file), "has rows with more fields than its first line", remedy="Look for commas at line ends."
        )

    table.columns = [str(column).strip() for column in table.columns]
    if table.columns.has_duplicates:
        raise DataError.at(str(file), "must name each column once", found=list(table.columns))
    missing = [column for column in REQUIRED_COLUMNS if column not in table]
    if missing:
        rule = f"must have the columns {', '.join(REQUIRED_COLUMNS)}; missing: {', '.join(missing)}"
        columns = list(table.columns)
        raise DataError.at(str(file), rule, found=columns, remedy=_suggest_columns(columns))

    # pandas names columns without a header `Unnamed: 3`.
    table = table.drop(columns=[column for column in table.columns if column.startswith("Unnamed:") or not column])
    table["uuid"] = table["uuid"].str.strip()
    table["row"] = [f"{file} row {line}" for line in range(2, len(table) + 2)]
    is_blank = (table.drop(columns=["row"]) == "").all(axis=1)
    table = table[~is_blank].reset_index(drop=True)
    _check_ids(table)
    findings.ids.update(table["uuid"])

    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in ("latitude", "longitude")}
    bad = [*_find_bad_coordinates(table, numbers["latitude"], numbers["longitude"])]
    findings.record(finding for _, finding in bad)
    return table.assign(**numbers).drop(index=[row for row, _ in bad]).reset_index(drop=True)


def _suggest_columns(columns: list[str]) -> str:
    separator = next((word for word in (";", "\t", "|") if len(columns) == 1 and word in columns[0]), None)
    if separator is not None:
        return f"Its fields are separated by {separator!r}: save it with commas, and numbers with a decimal point."
    return "Rename the columns of the first line."


def _check_ids(table: pd.DataFrame) -> None:
    """Raises DataError if an id is not a plain folder name, because a path could lead out of the root."""
    unsafe = [row for row, uuid in enumerate(table["uuid"]) if not is_plain_name(uuid)]
    if unsafe:
        first = table.iloc[unsafe[0]]
        rule = "must be the plain name of a folder, without / or \\, which could lead out of the data folder"
        remedy = "Correct the row. The check cannot be turned off."
        raise DataError.at(f"{first['row']}: uuid", rule, found=first["uuid"], remedy=remedy)


def _find_bad_coordinates(table: pd.DataFrame, lat: pd.Series, lon: pd.Series) -> Iterable[tuple[int, Finding]]:
    finite = np.isfinite(lat) & np.isfinite(lon)
    good = finite & (lat.abs() <= 90) & (lon.abs() <= 180)
    for row in np.flatnonzero(~good):
        reason = "latitude and longitude must be numbers"
        if finite[row]:
            reason = "latitude must be within 90 degrees, longitude within 180"
            reason += " (they look swapped)" if abs(lat[row]) <= 180 and abs(lon[row]) <= 90 else ""
        values = f"({table['latitude'][row]!r}, {table['longitude'][row]!r})"
        yield int(row), Finding("bad_row", table["row"][row], f"{reason}, got {values}")


def _add_folders(table: pd.DataFrame, root: Path, findings: Findings, allow_missing_views: bool) -> pd.DataFrame:
    """Adds the folder, the files and the split folder of each place; missing folders and views become findings."""
    places, problems, notes = _scan_folders(root, set(table["uuid"]), allow_missing_views)
    for row, uuid in zip(table["row"], table["uuid"], strict=True):
        if uuid not in places:
            problems.append(Finding("missing_images", row, f"has no folder of views images/{uuid} in {root}"))
    findings.record(problems)
    # These drop no place or view, whatever the action of their kind.
    findings.kept += notes

    usable = np.array([places.get(uuid) is not None for uuid in table["uuid"]], dtype=bool)
    table = table[usable].reset_index(drop=True)
    entries = [entry for uuid in table["uuid"] if (entry := places[uuid]) is not None]
    return table.assign(
        folder=[files.folder for files, _ in entries],
        names=pd.Series([files.names for files, _ in entries], dtype=object),
        folder_split=[split for _, split in entries],
        root=str(root),
    )


def _scan_folders(
    root: Path, ids: set[str], allow_missing_views: bool
) -> tuple[dict[str, tuple[PlaceFiles, str] | None], list[Finding], list[Finding]]:
    """Returns files and split by id (None for unusable folders), findings that exclude places, other findings."""
    places: dict[str, tuple[PlaceFiles, str] | None] = {}
    folders: dict[str, str] = {}
    problems: list[Finding] = []
    notes: list[Finding] = []
    for images, split in find_image_folders(root):
        base = os.path.realpath(images)

        # The listing is read completely first, so that an error below does not leave the folder open.
        with os.scandir(base) as scan:
            entries = sorted(scan, key=lambda entry: entry.name)
        for entry in entries:
            uuid = entry.name
            if uuid not in ids or not entry.is_dir():
                continue
            if entry.is_symlink():
                check_inside(entry.path, base)
            if uuid in folders:
                problems.append(Finding("duplicate_id", entry.path, f"has the same id as {folders[uuid]}"))
                continue

            names, conflicts = list_names(entry.path, base)
            missing = [f"{heading}.jpg" for heading, name in zip(HEADINGS, names, strict=True) if name is None]
            reason = f"lacks {', '.join(missing)}"
            if conflicts:
                reason = f"holds two files for one heading: {', '.join(conflicts)}"
            is_usable = not conflicts and (not missing or (allow_missing_views and len(missing) < len(HEADINGS)))

            # Two files for one heading have the same kind, as no view can be chosen.
            if conflicts or missing:
                (notes if is_usable else problems).append(Finding("missing_view", entry.path, reason))
            folders[uuid] = entry.path
            places[uuid] = (PlaceFiles(entry.path, names), split) if is_usable else None
    return places, problems, notes


def drop_repeated_ids(table: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Records the rows that repeat an earlier id as findings, and returns the other rows."""
    repeats = table["uuid"].duplicated(keep="first")
    if not repeats.any():
        return table

    first = table[~repeats].set_index("uuid")["row"]
    findings.record(
        Finding("duplicate_id", row, f"has the same uuid {uuid} as {first[uuid]}")
        for row, uuid in zip(table["row"][repeats], table["uuid"][repeats], strict=True)
    )
    return table[~repeats].reset_index(drop=True)


def drop_far_places(table: pd.DataFrame, region: Region, findings: Findings, far_km: float) -> pd.DataFrame:
    """Records the places more than `far_km` from the region's land as findings, and returns the other places."""
    if table.empty:
        return table
    coords = get_coords(table)
    distance_km = region.distance_to_land_km(coords)
    far = distance_km > far_km
    if not far.any():
        return table

    # A common mistake deserves a hint: with latitude and longitude swapped, the place is on land.
    can_swap = np.flatnonzero(far & (np.abs(coords[:, 1]) <= 90))
    swapped = set(can_swap[region.distance_to_land_km(coords[can_swap][:, ::-1]) == 0].tolist())
    hint = "; with latitude and longitude swapped, the place would be in the region"
    findings.record(
        Finding(
            "far_outside",
            table["row"][row],
            f"is {distance_km[row]:.0f} km from region {region.name} (at most {far_km:g} allowed)"
            + (hint if row in swapped else ""),
        )
        for row in np.flatnonzero(far)
    )
    return table[~far].reset_index(drop=True)
