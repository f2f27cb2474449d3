"""Places: the table of places from one or several roots, each row and folder checked.

A root holds `data.csv` (uuid, latitude, longitude) and `images/<uuid>/{0,90,180,270}.jpg`. It may be
sorted into train, val and test: `images/train/<uuid>`, `train/<uuid>` or `train/images/<uuid>`, each
with a `data.csv` of its own or one at the top. What is wrong becomes a finding; nothing is skipped in
silence.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from geoguesser.data.splits import ALIASES, NAMES
from geoguesser.errors import ConfigError, DataError, MissingFileError, check_choice
from geoguesser.geo.distance import FloatArray
from geoguesser.geo.region import Region

HEADINGS = (0, 90, 180, 270)
NEEDED = ("uuid", "latitude", "longitude")
FAR_KM = 300.0  # a place so far off its region is a mistake, not a boat
KINDS = ("bad_row", "duplicate_id", "missing_images", "missing_view", "broken_image", "far_outside")
SHOWN = 8


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: its kind (of `KINDS`), where, and why."""

    kind: str
    where: str
    reason: str


@dataclass
class Findings:
    """What was found, and what is done about each kind.

    Attributes:
        on_bad: kind -> `error` or `skip`; kinds that are not named are errors.
        skipped: Findings whose places were left out.
    """

    on_bad: dict[str, str] = field(default_factory=dict)
    skipped: list[Finding] = field(default_factory=list)

    def __post_init__(self) -> None:
        for kind, action in self.on_bad.items():
            if kind not in KINDS:
                raise ConfigError.at(f"data.on_bad.{kind}", f"must be one of the kinds {', '.join(KINDS)}")
            check_choice(f"data.on_bad.{kind}", action, ("error", "skip"))

    def settle(self, found: list[Finding]) -> None:
        """Takes findings in: raises where one of their kinds is an error, else records them as skipped.

        Raises:
            DataError: With up to eight findings, the counts and the way to skip them.
        """
        fatal = [one for one in found if self.on_bad.get(one.kind, "error") == "error"]
        if fatal:
            counts = Counter(one.kind for one in fatal)
            lines = [f"  {one.kind}: {f'{one.where} {one.reason}'.strip()}" for one in fatal[:SHOWN]]
            if len(fatal) > SHOWN:
                lines.append(f"  and {len(fatal) - SHOWN} more")
            totals = ", ".join(f"{count} {kind}" for kind, count in counts.items())
            skips = " ".join(f"data.on_bad.{kind}=skip" for kind in counts)
            raise DataError(
                f"The data break rules ({totals}):\n"
                + "\n".join(lines)
                + f"\nMend them, or leave those places out (they are counted and listed): {skips}"
            )
        self.skipped.extend(found)

    def counts(self) -> dict[str, int]:
        """How many findings of each kind were skipped."""
        return dict(Counter(one.kind for one in self.skipped))


def read_places(roots: Iterable[str], region: Region, findings: Findings) -> pd.DataFrame:
    """Reads and checks the places of all roots.

    Args:
        roots: Folders; a root or its images folder may be a symbolic link.
        region: Places far outside it are findings.
        findings: What to do about each kind; skipped ones are recorded there.

    Returns:
        One row per place: uuid, latitude, longitude (degrees), folder (of its views), folder_split
        (train, val, test or empty), root, and the other columns of the CSV files.

    Raises:
        ConfigError: No root is named.
        MissingFileError: A root or its data.csv is missing.
        DataError: A column is missing, an id would leave its root, or a finding's kind is an error.
    """
    paths = list(roots or [])
    if not paths:
        raise ConfigError.at(
            "data.roots",
            "must name at least one folder",
            found=paths,
            remedy="For example 'data.roots=[A,B]'.",
        )
    table = pd.concat([_read_root(str(root), number, findings) for number, root in enumerate(paths)])
    table = table.reset_index(drop=True)
    table = _without_duplicates(table, findings)
    return _without_far(table, region, findings)


def coords_of(table: pd.DataFrame) -> FloatArray:
    """(N, 2) latitude and longitude in degrees of a table of places."""
    return table[["latitude", "longitude"]].to_numpy(dtype=np.float64)


def _read_root(name: str, number: int, findings: Findings) -> pd.DataFrame:
    root = Path(name).expanduser()
    if not root.is_dir():
        raise MissingFileError.at(f"data.roots[{number}]", "must be a folder", found=name)
    files = [root / "data.csv"] if (root / "data.csv").is_file() else []
    folders = [*_split_folders(root), *_split_folders(root / "images")]
    files = files or [folder / "data.csv" for folder, _ in folders if (folder / "data.csv").is_file()]
    if not files:
        raise MissingFileError.at(
            f"data.roots[{number}] {root}", "must hold a file data.csv", remedy="See docs/data.md."
        )
    table = pd.concat([_read_csv(file, findings) for file in files], ignore_index=True)
    return _with_folders(table, root, findings)


def _read_csv(file: Path, findings: Findings) -> pd.DataFrame:
    """Reads a table of places as text, then its coordinates as numbers; bad rows become findings."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
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
        )
    table = table.drop(columns=[column for column in table.columns if column.startswith("Unnamed:") or not column])
    table["uuid"] = table["uuid"].str.strip()
    table["row"] = [f"{file} row {line}" for line in range(2, len(table) + 2)]
    _check_ids(table)
    numbers = {name: pd.to_numeric(table[name], errors="coerce") for name in ("latitude", "longitude")}
    bad = [*_bad_coordinates(table, numbers["latitude"], numbers["longitude"])]
    findings.settle([finding for _, finding in bad])
    table = table.assign(**numbers)
    return table.drop(index=[row for row, _ in bad]).reset_index(drop=True)


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


def _split_folders(folder: Path) -> list[tuple[Path, str]]:
    """The sub-folders train, val and test (or their other names) that are there, each with its split."""
    names = {**{name: name for name in NAMES}, **ALIASES}
    return [(folder / word, split) for word, split in names.items() if (folder / word).is_dir()]


def _image_folders(root: Path) -> list[tuple[Path, str]]:
    """The folders in which place folders may lie, each with the split that it stands for, or ''."""
    images = root / "images"
    folders = [*([(images, "")] if images.is_dir() else []), *_split_folders(images)]
    for folder, split in _split_folders(root):
        folders.append((folder / "images" if (folder / "images").is_dir() else folder, split))
    return folders


def _with_folders(table: pd.DataFrame, root: Path, findings: Findings) -> pd.DataFrame:
    """Adds each place's folder of views and split; absent folders and views become findings."""
    places: dict[str, tuple[str, str]] = {}
    wanted, found = set(table["uuid"]), []
    for folder, split in _image_folders(root):
        base = os.path.realpath(folder)
        with os.scandir(base) as scan:  # closed at once: a refusal below would leave it open
            entries = list(scan)
        for entry in entries:
            if entry.name not in wanted or not entry.is_dir():
                continue
            if entry.is_symlink():
                _check_inside(entry.path, base)
            if entry.name in places:
                other = places[entry.name][0]
                found.append(Finding("duplicate_id", entry.path, f"has the same id as {other}"))
                continue
            places[entry.name] = (entry.path, split)
            found.extend(_missing_views(entry.path))
    for row, uuid in zip(table["row"], table["uuid"], strict=True):
        if uuid not in places:
            found.append(Finding("missing_images", row, f"has no folder of views images/{uuid} in {root}"))
    findings.settle(found)
    bad = {os.path.basename(one.where) for one in found if one.kind == "missing_view"}
    good = np.array([uuid in places and uuid not in bad for uuid in table["uuid"]], dtype=bool)
    kept = table[good].reset_index(drop=True)
    pairs = [places[uuid] for uuid in kept["uuid"]]
    return kept.assign(
        folder=[path for path, _ in pairs], folder_split=[split for _, split in pairs], root=str(root)
    )


def _missing_views(folder: str) -> list[Finding]:
    entries = {entry.name: entry for entry in os.scandir(folder)}
    for entry in entries.values():
        if entry.is_symlink():
            _check_inside(entry.path, os.path.realpath(os.path.dirname(folder)))
    missing = [f"{heading}.jpg" for heading in HEADINGS if f"{heading}.jpg" not in entries]
    return [Finding("missing_view", folder, f"lacks {', '.join(missing)}")] if missing else []


def _check_inside(path: str, base: str) -> None:
    real = os.path.realpath(path)
    if os.path.commonpath((real, base)) != base:
        raise DataError.at(
            path,
            f"must not lead out of its images folder {base}",
            found=real,
            remedy="Replace the link by the files.",
        )


def _without_duplicates(table: pd.DataFrame, findings: Findings) -> pd.DataFrame:
    again = table["uuid"].duplicated(keep="first")
    if not again.any():
        return table
    first = table[~again].set_index("uuid")["row"]
    doubled = zip(table["row"][again], table["uuid"][again], strict=True)
    findings.settle(
        [Finding("duplicate_id", row, f"has the same uuid {uuid} as {first[uuid]}") for row, uuid in doubled]
    )
    return table[~again].reset_index(drop=True)


def _without_far(table: pd.DataFrame, region: Region, findings: Findings) -> pd.DataFrame:
    if table.empty:
        return table
    coords = coords_of(table)
    distance = region.distance_to_land_km(coords)
    far = distance > FAR_KM
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
                f"lies {distance[row]:.0f} km from region {region.name} (at most {FAR_KM:g} allowed)"
                + (hint if row in swapped else ""),
            )
            for row in np.flatnonzero(far)
        ]
    )
    return table[~far].reset_index(drop=True)
