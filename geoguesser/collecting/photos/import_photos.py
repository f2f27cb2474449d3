"""Photos: a folder of one's own photos becomes places in the format that training reads.

A photo needs a position and a direction of sight in its EXIF. Photos of one spot become one place, each the view
to the heading that it looks nearest to; a 360-degree photo gives all four. Originals are never changed.
"""

from __future__ import annotations

import uuid
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xxhash
from tqdm import tqdm

from geoguesser.collecting.database import NAME as JOURNAL
from geoguesser.collecting.output_tables import TABLE, check_own
from geoguesser.collecting.photos.cut_panoramas import check_look, cut_sphere
from geoguesser.collecting.photos.grouping import group, nearest_headings
from geoguesser.collecting.photos.scan import Photo, read_photos, skip
from geoguesser.collecting.photos.writer import (
    encode,
    keep_settings,
    photo_files,
    read_file,
    read_photo,
    write_folder,
    write_table,
)
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import StoreError, check_int, check_number
from geoguesser.geo.distance import from_unit, to_unit

COLUMNS = ("uuid", "latitude", "longitude", "date", "provider")


@dataclass(frozen=True)
class Chosen:
    """A place: its photo for each heading by number, the position and the day."""

    views: dict[int, Photo]
    position_deg: tuple[float, float]
    date: str

    @property
    def name(self) -> str:
        """An id that follows from the bytes of the photos and their headings alone."""
        words = "\n".join(f"{HEADINGS[number]} {photo.digest}" for number, photo in sorted(self.views.items()))
        return str(uuid.UUID(bytes=xxhash.xxh3_128_digest(words.encode())))


def photos_to_places(
    folder: str | Path,
    out: str | Path,
    *,
    group_m: float = 10.0,
    group_s: float | None = 600.0,
    tolerance_deg: float = 45.0,
    min_views: int = 1,
    fov_deg: float = 90.0,
    size: int = 640,
    quality: int = 92,
) -> dict[str, Any]:
    """Turns photos into `out/images/<uuid>/{0,90,180,270}.jpg` and `out/data.csv`.

    Beside them: sources.csv (which photo is which view) and skipped.csv (which photo is none, and why). A run that
    was stopped goes on; the same photos give the same places.

    Args:
        folder: JPEG, PNG or WebP files, in folders or not; they are only read.
        out: Where the places go.
        group_m: Photos no farther than this from the first one of a place belong to it.
        group_s: Where both have a date, they were also taken within so many seconds; None for any time.
        tolerance_deg: How far off a heading a view may look, from 0 to 45.
        min_views: Places with fewer views are left out, from 1 to 4.
        fov_deg: Field of view of what is cut from 360-degree photos.
        size: Height and width of those, and the shorter side of ordinary photos that are larger, in pixels.
        quality: Of JPEG, from 1 to 100.

    Returns:
        files, places, views, panoramas (used), complete (places with four views), written, there (places already),
        left_over (folders of an earlier run that no row names), magnetic and unstated (views by a direction from
        magnetic or unstated north), tilted (panoramas), skipped, and skipped_KIND for each kind.

    Raises:
        ConfigError: A number is out of its range, or `out` holds places of other settings.
        MissingFileError: There is no such folder, or no photo in it.
        StoreError: `out` holds places of something else, or cannot be written.
    """
    check_number("photos.group_m", group_m, low=0.0, high=1000.0)
    if group_s is not None:
        check_number("photos.group_s", group_s, low=0.0)
    check_number("photos.tolerance_deg", tolerance_deg, low=0.0, high=45.0)
    check_int("photos.min_views", min_views, low=1, high=4)
    check_look("photos", HEADINGS, pitch_deg=0.0, fov_deg=fov_deg, size=size, quality=quality)
    source, target = Path(folder).expanduser(), Path(out).expanduser()
    _check_out(target)
    paths = photo_files(source, target, "photos.folder")
    keep_settings(target, {"fov_deg": float(fov_deg), "size": size, "quality": quality})
    skipped: list[dict[str, Any]] = []
    photos = read_photos(paths, skipped, fov_deg=fov_deg, size=size)
    places = _places(
        photos, skipped, group_m=group_m, group_s=group_s, tolerance_deg=tolerance_deg, min_views=min_views
    )
    counts = Counter(dict.fromkeys(("written", "there"), 0))
    for place in tqdm(places, desc="writing places", unit=" places", disable=None, leave=False):
        counts[_write(place, target, fov_deg, size, quality)] += 1
    _write_tables(source, target, places, skipped)
    return {"files": len(paths), **_summary(places), **counts, **_leftovers(target, places), **_kinds(skipped)}


def _check_out(out: Path) -> None:
    check_own(out, COLUMNS)
    if (out / JOURNAL).exists():
        raise StoreError.at(
            f"out={out}", f"holds places that a provider was or will be asked for ({JOURNAL})",
            remedy="Name another out: training takes several folders.",
        )  # fmt: skip


def _places(
    photos: list[Photo],
    skipped: list[dict[str, Any]],
    *,
    group_m: float,
    group_s: float | None,
    tolerance_deg: float,
    min_views: int,
) -> list[Chosen]:
    coords = np.array([photo.tags.position_deg for photo in photos], dtype=np.float64).reshape(-1, 2)
    leaders = group(coords, [photo.tags.taken for photo in photos], group_m=group_m, group_s=group_s)
    members: dict[int, list[Photo]] = defaultdict(list)
    for photo, leader in zip(photos, leaders.tolist(), strict=True):
        members[leader].append(photo)
    places = []
    for those in members.values():
        views = _views(those, skipped, tolerance_deg)
        if len(views) < min_views:
            reason = f"its place has {len(views)} views, and min_views is {min_views}"
            skipped += [skip(photo.path, "few_views", reason) for photo in views.values()]
        elif views:
            places.append(_place(views))
    return places


def _views(photos: list[Photo], skipped: list[dict[str, Any]], tolerance_deg: float) -> dict[int, Photo]:
    """By heading the best photo: the first panorama takes all four, else the one that looks nearest to it."""
    sphere = next((photo for photo in photos if photo.sphere), None)
    if sphere is not None:
        rest = [photo for photo in photos if photo is not sphere]
        skipped += [skip(photo.path, "heading_taken", f"{sphere.path.name} is a panorama of it") for photo in rest]
        return dict.fromkeys(range(len(HEADINGS)), sphere)
    directions = np.array([photo.tags.direction_deg for photo in photos], dtype=np.float64)
    numbers, off_deg = nearest_headings(directions)
    views: dict[int, Photo] = {}
    for row in np.argsort(off_deg, kind="stable").tolist():
        number, photo = int(numbers[row]), photos[row]
        if off_deg[row] > tolerance_deg:
            reason = f"looks to {directions[row]:.1f}, {off_deg[row]:.1f} degrees off {HEADINGS[number]}"
            skipped.append(skip(photo.path, "between_headings", reason))
        elif number in views:
            reason = f"{views[number].path.name} looks nearer to {HEADINGS[number]}"
            skipped.append(skip(photo.path, "heading_taken", reason))
        else:
            views[number] = photo
    return views


def _place(views: dict[int, Photo]) -> Chosen:
    photos = list({photo.digest: photo for _, photo in sorted(views.items())}.values())
    middle = from_unit(to_unit(np.array([photo.tags.position_deg for photo in photos])).mean(axis=0))
    days = sorted(str(photo.tags.taken.date()) for photo in photos if photo.tags.taken is not None)
    return Chosen(views, (float(middle[0]), float(middle[1])), days[0] if days else "")


def _write(place: Chosen, out: Path, fov_deg: float, size: int, quality: int) -> str:
    """Writes a place's views unless they are there; says which: `written` or `there`."""
    folder = out / "images" / place.name
    if all((folder / f"{HEADINGS[number]}.jpg").is_file() for number in place.views):
        return "there"
    first = next(iter(place.views.values()))
    if first.sphere:
        centre = first.tags.direction_deg
        where = str(first.path)
        data = read_file(first.path)
        images = cut_sphere(data, first.tags, where=where, compass_deg=centre, fov_deg=fov_deg, size=size)
        views = {number: images[number] for number in place.views}
    else:
        views = {
            number: read_photo(read_file(photo.path), size, str(photo.path))
            for number, photo in place.views.items()
        }
    files = {f"{HEADINGS[number]}.jpg": encode(view, quality) for number, view in views.items()}
    write_folder(folder, files)
    return "written"


def _write_tables(source: Path, out: Path, places: list[Chosen], skipped: list[dict[str, Any]]) -> None:
    rows, sources = [], []
    for place in sorted(places, key=lambda one: one.name):
        lat, lon = place.position_deg
        row = {"uuid": place.name, "latitude": lat, "longitude": lon, "date": place.date, "provider": "photos"}
        rows.append(row)
        for number, photo in sorted(place.views.items()):
            file, direction = str(photo.path.relative_to(source)), photo.tags.direction_deg
            sources.append(
                {"uuid": place.name, "heading": HEADINGS[number], "file": file, "direction_deg": direction}
            )
    skips = [{**one, "file": str(one["file"].relative_to(source))} for one in skipped]
    write_table(out / TABLE, rows, COLUMNS)
    write_table(out / "sources.csv", sources, ("uuid", "heading", "file", "direction_deg"))
    write_table(out / "skipped.csv", sorted(skips, key=lambda one: str(one["file"])), ("file", "kind", "reason"))


def _summary(places: list[Chosen]) -> dict[str, int]:
    used = [photo for place in places for photo in {one.digest: one for one in place.views.values()}.values()]
    references = Counter(photo.tags.reference for photo in used)
    return {
        "places": len(places),
        "complete": sum(len(place.views) == len(HEADINGS) for place in places),
        "views": sum(len(place.views) for place in places),
        "panoramas": sum(photo.sphere for photo in used),
        "magnetic": references["magnetic"],
        "unstated": references["unstated"],
        "tilted": sum(photo.sphere and photo.tags.tilted for photo in used),
    }


def _leftovers(out: Path, places: list[Chosen]) -> dict[str, int]:
    """How many folders an earlier run left that no row names any more; they are not touched."""
    images = out / "images"
    there = (
        {entry.name for entry in images.iterdir() if not entry.name.startswith(".")} if images.is_dir() else set()
    )
    return {"left_over": len(there - {place.name for place in places})}


def _kinds(skipped: list[dict[str, Any]]) -> dict[str, int]:
    kinds = Counter(f"skipped_{one['kind']}" for one in skipped)
    return {"skipped": len(skipped), **dict(sorted(kinds.items()))}
