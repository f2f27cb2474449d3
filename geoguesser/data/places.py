"""Places: the table of places from one or several roots, each row and folder checked.

A root holds `data.csv` (uuid, latitude, longitude) and `images/<uuid>/{0,90,180,270}.jpg`. It may be
sorted into train, val and test: `images/train/<uuid>`, `train/<uuid>` or `train/images/<uuid>`, each
with a `data.csv` of its own or one at the top. What is wrong becomes a finding; nothing is skipped in
silence.
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
    Names,
    PlaceFiles,
    check_inside,
    find_image_folders,
    list_names,
    split_folders,
)
from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.geo.region import Region

NEEDED = ("uuid", "latitude", "longitude")
FAR_KM = 300.0  # a place so far off its region is a mistake, not a boat


def read_places(
    roots: Iterable[str], region: Region, findings: Findings, *, far_km: float = FAR_KM, mask: bool = False
) -> pd.DataFrame:
    """Reads and checks the places of all roots.

    Args:
        roots: Folders; a root or its images folder may be a symbolic link.
        region: Places far outside it are findings.
        findings: What to do about each kind; they are recorded there.
        far_km: How far off the region's land a place may lie.
        mask: Keep places with one to three views.

    Returns:
        One row per place: uuid, latitude, longitude (degrees), folder (of its views), names (of its files
        by heading), folder_split (train, val, test or empty), root, row (where it stands), and the other
        columns of the CSV files.

    Raises:
        ConfigError: No root is named.
        MissingFileError: A root or its data.csv is missing.
        DataError: A column is missing, an id would leave its root, or a finding's kind is an error.
    """
    if not isinstance(roots, list | tuple) or not roots:
        raise ConfigError.at(
            "data.roots",
            "must name at least one folder",
            found=roots,
            remedy="For example 'data.roots=[A,B]'.",
        )
    paths = [str(root) for root in roots]
    real = [os.path.realpath(Path(root).expanduser()) for root in paths]
    twice = [root for at, root in enumerate(paths) if real[at] in real[:at]]
    if twice:
        raise ConfigError.at("data.roots", "must name each folder once", found=twice[0])
    table = pd.concat([_read_root(root, number, findings, mask) for number, root in enumerate(paths)])
    table = table.reset_index(drop=True)
    table = drop_duplicates(table, findings)
    return drop_far(table, region, findings, far_km)


def get_coords(table: pd.DataFrame) -> FloatArray:
    """(N, 2) latitude and longitude in degrees of a table of places."""
    return table[["latitude", "longitude"]].to_numpy(dtype=np.float64)


def list_files(table: pd.DataFrame) -> list[PlaceFiles]:
    """(N,) the files of each place of a table."""
    return [PlaceFiles(folder, names) for folder, names in zip(table["folder"], table["names"], strict=True)]


def _read_root(name: str, number: int, findings: Findings, mask: bool) -> pd.DataFrame:
    try:
        return _read_whole_root(name, number, findings, mask)
    except MissingFileError:
        raise
    except OSError as error:
        where = f"data.roots[{number}] {error.filename or name}"
        raise DataError.at(where, f"cannot be read ({error.strerror or error})") from error


def _read_whole_root(name: str, number: int, findings: Findings, mask: bool) -> pd.DataFrame:
    root = Path(name).expanduser()
    if not root.is_dir():
        raise MissingFileError.at(f"data.roots[{number}]", "must be a folder", found=name)
    files = [root / "data.csv"] if (root / "data.csv").is_file() else []
    folders = [*split_folders(root), *split_folders(root / "images")]
    files = files or [folder / "data.csv" for folder, _ in folders if (folder / "data.csv").is_file()]
    if not files:
        raise MissingFileError.at(
            f"data.roots[{number}] {root}", "must hold a file data.csv", remedy="See docs/data.md."
        )
    table = pd.concat([read_csv(file, findings) for file in files], ignore_index=True)
    return _with_folders(table, root, findings, mask)


def read_csv(file: Path, findings: Findings) -> pd.DataFrame:
    """Reads a table of places as text, then its coordinates as numbers; bad rows become findings."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False, skip_blank_lines=False)
    except (ValueError, UnicodeDecodeError, pd.errors.ParserError) as error:
        raise DataError.at(str(file), f"must be a CSV file in UTF-8 ({str(error).strip()})") from error
    if len(table) and not isinstance(table.index, pd.RangeIndex):  # pandas took the first field for an index
        raise DataError.at(
            str(file), "has rows with more fields than its first line", remedy="Look for commas at line ends."
        )
    table.columns = [str(column).strip() for column in table.columns]
    if table.columns.has_duplicates:
        raise DataError.at(str(file), "must name each column once", found=list(table.columns))
    missing = [column for column in NEEDED if column not in table]
    if missing:
        raise DataError.at(
            str(file),
            f"must have the columns {', '.join(NEEDED)}; missing: {', '.join(missing)}",
            found=list(table.columns),
            remedy=_how_to_name(list(table.columns)),
        )
    table = table.drop(columns=[column for column in table.columns if column.startswith("Unnamed:") or not column])
    table["uuid"] = table["uuid"].str.strip()
    table["row"] = [f"{file} row {line}" for line in range(2, len(table) + 2)]
    table = _without_blank(table)
    _check_ids(table)
    findings.ids.update(table["uuid"])
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in ("latitude", "longitude")}
    bad = [*_bad_coordinates(table, numbers["latitude"], numbers["longitude"])]
    findings.settle([finding for _, finding in bad])
    table = table.assign(**numbers)
    return table.drop(index=[row for row, _ in bad]).reset_index(drop=True)


def _how_to_name(columns: list[str]) -> str:
    """What to do where columns are missing: other separators, or other names."""
    other = next((word for word in (";", "\t", "|") if len(columns) == 1 and word in columns[0]), None)
    if other is not None:
        return f"Its fields are parted by {other!r}: save it with commas, and numbers with a decimal point."
    return "Rename the columns of the first line."


def _without_blank(table: pd.DataFrame) -> pd.DataFrame:
    """Lines without any word are no rows; they were read so that rows have the numbers of their lines."""
    blank = table["uuid"] == ""
    if blank.any():
        words = table[blank].drop(columns=["row"])
        blank[blank] = (words == "").all(axis=1)
        table = table[~blank].reset_index(drop=True)
    return table


def _check_ids(table: pd.DataFrame) -> None:
    """Ids are names of folders: one that is a path would lead out of its root."""
    ids = table["uuid"]
    unsafe = ids.isin(["", ".", ".."]) | ids.str.contains(r"[/\\\x00]", regex=True)
    if unsafe.any():
        first = table[unsafe].iloc[0]
        raise DataError.at(
            f"{first['row']}: uuid",
            "must be the plain name of a folder, without / or \\, for it must not lead out of its root",
            found=first["uuid"],
            remedy="Correct the row; such rows are never skipped.",
        )


def _bad_coordinates(table: pd.DataFrame, lat: pd.Series, lon: pd.Series) -> Iterable[tuple[int, Finding]]:
    finite = np.isfinite(lat) & np.isfinite(lon)
    good = finite & (lat.abs() <= 90) & (lon.abs() <= 180)
    for row in np.flatnonzero(~good):
        found = f"({table['latitude'][row]!r}, {table['longitude'][row]!r})"
        reason = (
            "latitude and longitude must be numbers"
            if not finite[row]
            else ("latitude must be within 90 degrees, longitude within 180")
        )
        if finite[row] and abs(lat[row]) <= 180 and abs(lon[row]) <= 90:
            reason += " (they look swapped)"
        yield int(row), Finding("bad_row", table["row"][row], f"{reason}, got {found}")


def _with_folders(table: pd.DataFrame, root: Path, findings: Findings, mask: bool) -> pd.DataFrame:
    """Adds each place's folder of views and split; absent folders and views become findings."""
    places: dict[str, tuple[str, Names, str]] = {}
    wanted = set(table["uuid"])
    found: list[Finding] = []  # of places that cannot be used as they are
    noted: list[Finding] = []  # of places whose other views are used
    bad: set[str] = set()
    for folder, split in find_image_folders(root):
        base = os.path.realpath(folder)
        with os.scandir(base) as scan:  # closed at once: a refusal below would leave it open
            entries = sorted(scan, key=lambda one: one.name)
        for entry in entries:
            if entry.name not in wanted or not entry.is_dir():
                continue
            if entry.is_symlink():
                check_inside(entry.path, base)
            if entry.name in places:
                other = places[entry.name][0]
                found.append(Finding("duplicate_id", entry.path, f"has the same id as {other}"))
                continue
            names, doubled = list_names(entry.path, base)
            places[entry.name] = (entry.path, names, split)
            missing = [f"{heading}.jpg" for heading, name in zip(HEADINGS, names, strict=True) if name is None]
            if doubled:
                reason = f"holds two files for one heading: {', '.join(doubled)}"
                found.append(Finding("missing_view", entry.path, reason))
                bad.add(entry.name)
            elif missing and mask and len(missing) < len(HEADINGS):
                noted.append(Finding("missing_view", entry.path, f"lacks {', '.join(missing)}"))
            elif missing:
                found.append(Finding("missing_view", entry.path, f"lacks {', '.join(missing)}"))
                bad.add(entry.name)
    for row, uuid in zip(table["row"], table["uuid"], strict=True):
        if uuid not in places:
            found.append(Finding("missing_images", row, f"has no folder of views images/{uuid} in {root}"))
    findings.settle(found)
    findings.note(noted)
    good = np.array([uuid in places and uuid not in bad for uuid in table["uuid"]], dtype=bool)
    kept = table[good].reset_index(drop=True)
    own = [places[uuid] for uuid in kept["uuid"]]
    names_column = pd.Series([names for _, names, _ in own], dtype=object)
    return kept.assign(
        folder=[path for path, _, _ in own],
        names=names_column,
        folder_split=[split for _, _, split in own],
        root=str(root),
    )


def drop_duplicates(table: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    """Settles the rows whose id came before, and returns the others."""
    again = table["uuid"].duplicated(keep="first")
    if not again.any():
        return table
    first = table[~again].set_index("uuid")["row"]
    doubled = zip(table["row"][again], table["uuid"][again], strict=True)
    findings.settle(
        [Finding("duplicate_id", row, f"has the same uuid {uuid} as {first[uuid]}") for row, uuid in doubled]
    )
    return table[~again].reset_index(drop=True)


def drop_far(table: pd.DataFrame, region: Region, findings: Findings, far_km: float) -> pd.DataFrame:
    """Settles the places that lie more than `far_km` off the region's land, and returns the others."""
    if table.empty:
        return table
    coords = get_coords(table)
    distance = region.distance_to_land_km(coords)
    far = distance > far_km
    if not far.any():
        return table
    turned = np.flatnonzero(far & (np.abs(coords[:, 1]) <= 90))
    swapped = set(turned[region.distance_to_land_km(coords[turned][:, ::-1]) == 0].tolist())
    hint = "; swapped, latitude and longitude would lie in it"
    findings.settle(
        [
            Finding(
                "far_outside",
                table["row"][row],
                f"lies {distance[row]:.0f} km from region {region.name} (at most {far_km:g} allowed)"
                + (hint if row in swapped else ""),
            )
            for row in np.flatnonzero(far)
        ]
    )
    return table[~far].reset_index(drop=True)
