"""Import of a folder of photos as places in the format that training reads.

A photo needs a position and a direction of sight in its EXIF. Nearby photos become one place, in which each is the
view of the heading nearest to its direction. A 360-degree photo gives all four views. Originals are never changed.
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

from geoguesser.collecting.database import DATABASE_NAME
from geoguesser.collecting.output_tables import PLACES_FILE, check_table_columns
from geoguesser.collecting.photos.cut_panoramas import check_view_settings, count_skipped, cut_panorama
from geoguesser.collecting.photos.grouping import find_nearest_headings, group_photos
from geoguesser.collecting.photos.scan import PhotoFile, make_skip_row, scan_photos
from geoguesser.collecting.photos.writer import (
    decode_photo,
    encode_view,
    list_photos,
    read_image_file,
    record_settings,
    write_records,
    write_view_folder,
)
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import StoreError, check_int, check_number
from geoguesser.geo.distance import from_unit, to_unit

PHOTO_PLACE_COLUMNS = ("uuid", "latitude", "longitude", "date", "provider")


@dataclass(frozen=True)
class PhotoPlace:
    """Place made of photos, with the photo of each heading by its number."""

    views: dict[int, PhotoFile]

    @property
    def place_id(self) -> str:
        """Id derived from the bytes of the photos and their headings, so that it is the same in every run."""
        text = "\n".join(f"{HEADINGS[number]} {photo.digest}" for number, photo in sorted(self.views.items()))
        return str(uuid.UUID(bytes=xxhash.xxh3_128_digest(text.encode())))

    @property
    def photos(self) -> list[PhotoFile]:
        """Different photos of the place, in the order of their headings. A panorama occurs once."""
        return list({photo.digest: photo for _, photo in sorted(self.views.items())}.values())

    @property
    def position_deg(self) -> tuple[float, float]:
        """Mean latitude and longitude of the photos."""
        positions = np.array([photo.tags.position_deg for photo in self.photos])
        latitude, longitude = from_unit(to_unit(positions).mean(axis=0))
        return float(latitude), float(longitude)

    @property
    def date(self) -> str:
        """Day of the first photo; empty if unknown."""
        days = (str(photo.tags.taken.date()) for photo in self.photos if photo.tags.taken is not None)
        return min(days, default="")


def import_photos(
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
    """Writes places made of photos to `out/images/<uuid>/{0,90,180,270}.jpg` and `out/data.csv`.

    Also writes sources.csv (the photo of each view) and skipped.csv (photos that are no view, and the reasons). A
    run that was stopped can be continued. The same photos always give the same places.

    Args:
        folder: Folder of JPEG, PNG or WebP files, searched recursively; the files are only read.
        out: Folder for the places.
        group_m: Largest distance of a photo from the first one of its place.
        group_s: Largest time difference from the first one in seconds, if both times are known; None for any.
        tolerance_deg: Largest deviation of a view from its heading, from 0 to 45.
        min_views: Smallest number of views of a place, from 1 to 4; other places are left out.
        fov_deg: Field of view of views cut from 360-degree photos.
        size: Height and width of these views. Larger ordinary photos are reduced to this shorter side. In pixels.
        quality: JPEG quality from 1 to 100.

    Returns:
        Counts: files, places, views, panoramas (used), complete (places with four views), written, there (places
        written before), left_over (folders of an earlier run that data.csv no longer names), magnetic and unstated
        (photos with a direction from magnetic or unstated north), tilted (panoramas), skipped, and skipped_KIND
        for each kind.

    Raises:
        ConfigError: A number is out of its range, or `out` holds places of other settings.
        MissingFileError: The folder does not exist or holds no photo.
        StoreError: `out` holds other places, or cannot be written.
    """
    check_number("photos.group_m", group_m, low=0.0, high=1000.0)
    if group_s is not None:
        check_number("photos.group_s", group_s, low=0.0)
    check_number("photos.tolerance_deg", tolerance_deg, low=0.0, high=45.0)
    check_int("photos.min_views", min_views, low=1, high=4)
    check_view_settings("photos", HEADINGS, pitch_deg=0.0, fov_deg=fov_deg, size=size, quality=quality)

    source, target = Path(folder).expanduser(), Path(out).expanduser()
    check_table_columns(target, PHOTO_PLACE_COLUMNS)
    if (target / DATABASE_NAME).exists():
        raise StoreError.at(
            f"out={target}", f"holds the collection of a provider ({DATABASE_NAME})",
            remedy="Name another out: training reads several folders.",
        )  # fmt: skip
    paths = list_photos(source, target, "photos.folder")
    record_settings(target, {"fov_deg": float(fov_deg), "size": size, "quality": quality})

    skipped: list[dict[str, Any]] = []
    photos = scan_photos(paths, skipped, fov_deg=fov_deg, size=size)
    places = _make_places(
        photos, skipped, group_m=group_m, group_s=group_s, tolerance_deg=tolerance_deg, min_views=min_views
    )

    counts = Counter({"written": 0, "there": 0})
    for place in tqdm(places, desc="writing places", unit=" places", disable=None, leave=False):
        view_folder = target / "images" / place.place_id
        if all((view_folder / f"{HEADINGS[number]}.jpg").is_file() for number in place.views):
            counts["there"] += 1
        else:
            _write_views(place, view_folder, fov_deg, size, quality)
            counts["written"] += 1

    _write_tables(source, target, places, skipped)

    # Folders of an earlier run that data.csv no longer names are counted, and not touched.
    view_folders = {path.name for path in (target / "images").glob("[!.]*")}
    return {
        "files": len(paths),
        **_count_places(places),
        **counts,
        "left_over": len(view_folders - {place.place_id for place in places}),
        **count_skipped(skipped),
    }


def _make_places(
    photos: list[PhotoFile],
    skipped: list[dict[str, Any]],
    *,
    group_m: float,
    group_s: float | None,
    tolerance_deg: float,
    min_views: int,
) -> list[PhotoPlace]:
    coords = np.array([photo.tags.position_deg for photo in photos], dtype=np.float64).reshape(-1, 2)
    leaders = group_photos(coords, [photo.tags.taken for photo in photos], group_m=group_m, group_s=group_s)
    groups: dict[int, list[PhotoFile]] = defaultdict(list)
    for photo, leader in zip(photos, leaders.tolist(), strict=True):
        groups[leader].append(photo)

    places = []
    for group in groups.values():
        views = _assign_headings(group, skipped, tolerance_deg)
        if len(views) < min_views:
            reason = f"its place has {len(views)} views, and min_views is {min_views}"
            skipped += [make_skip_row(photo.path, "few_views", reason) for photo in views.values()]
        elif views:
            places.append(PhotoPlace(views))
    return places


def _assign_headings(
    photos: list[PhotoFile], skipped: list[dict[str, Any]], tolerance_deg: float
) -> dict[int, PhotoFile]:
    """Assigns photos of a place to headings, by number. A panorama takes all four headings."""
    panorama = next((photo for photo in photos if photo.is_panorama), None)
    if panorama is not None:
        reason = f"{panorama.path.name} is a panorama of the place"
        skipped += [
            make_skip_row(photo.path, "heading_taken", reason) for photo in photos if photo is not panorama
        ]
        return dict.fromkeys(range(len(HEADINGS)), panorama)

    directions = np.array([photo.tags.direction_deg for photo in photos], dtype=np.float64)
    numbers, deviations = find_nearest_headings(directions)
    views: dict[int, PhotoFile] = {}
    for row in np.argsort(deviations, kind="stable").tolist():
        number, photo = int(numbers[row]), photos[row]
        if deviations[row] > tolerance_deg:
            reason = f"looks to {directions[row]:.1f}, {deviations[row]:.1f} degrees off {HEADINGS[number]}"
            skipped.append(make_skip_row(photo.path, "between_headings", reason))
        elif number in views:
            reason = f"{views[number].path.name} looks nearer to {HEADINGS[number]}"
            skipped.append(make_skip_row(photo.path, "heading_taken", reason))
        else:
            views[number] = photo
    return views


def _write_views(place: PhotoPlace, folder: Path, fov_deg: float, size: int, quality: int) -> None:
    first = place.photos[0]
    if first.is_panorama:
        data, where, compass_deg = read_image_file(first.path), str(first.path), first.tags.direction_deg
        cut = cut_panorama(data, first.tags, where=where, compass_deg=compass_deg, fov_deg=fov_deg, size=size)
        images = {number: cut[number] for number in place.views}
    else:
        images = {
            number: decode_photo(read_image_file(photo.path), size, str(photo.path))
            for number, photo in place.views.items()
        }

    files = {f"{HEADINGS[number]}.jpg": encode_view(image, quality) for number, image in images.items()}
    write_view_folder(folder, files)


def _write_tables(source: Path, out: Path, places: list[PhotoPlace], skipped: list[dict[str, Any]]) -> None:
    """Writes data.csv, sources.csv and skipped.csv. Paths are relative to the folder of photos."""
    places = sorted(places, key=lambda place: place.place_id)
    place_rows = [(place.place_id, *place.position_deg, place.date, "photos") for place in places]
    write_records(out / PLACES_FILE, place_rows, PHOTO_PLACE_COLUMNS)

    view_rows = [
        (place.place_id, HEADINGS[number], photo.path.relative_to(source), photo.tags.direction_deg)
        for place in places
        for number, photo in sorted(place.views.items())
    ]
    write_records(out / "sources.csv", view_rows, ("uuid", "heading", "file", "direction_deg"))

    skip_rows = [{**row, "file": str(row["file"].relative_to(source))} for row in skipped]
    skip_rows.sort(key=lambda row: row["file"])
    write_records(out / "skipped.csv", skip_rows, ("file", "kind", "reason"))


def _count_places(places: list[PhotoPlace]) -> dict[str, int]:
    photos = [photo for place in places for photo in place.photos]
    references = Counter(photo.tags.reference for photo in photos)
    return {
        "places": len(places),
        "complete": sum(len(place.views) == len(HEADINGS) for place in places),
        "views": sum(len(place.views) for place in places),
        "panoramas": sum(photo.is_panorama for photo in photos),
        "magnetic": references["magnetic"],
        "unstated": references["unstated"],
        "tilted": sum(photo.is_panorama and photo.tags.is_tilted for photo in photos),
    }
