"""Import of a folder of photos as places in the format that training reads.

A photo needs a position and a camera direction (GPSImgDirection) in its EXIF data. Nearby photos are grouped into
one place. Each photo becomes the view of the heading that is nearest to its camera direction. A 360-degree photo
gives all four views. Originals are never changed.
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
from geoguesser.collecting.output_tables import OTHER_FOLDER_REMEDY, PLACES_FILE, check_table_columns
from geoguesser.collecting.photos import writer
from geoguesser.collecting.photos.cut_panoramas import check_view_settings, cut_panorama
from geoguesser.collecting.photos.grouping import find_nearest_headings, group_photos
from geoguesser.collecting.photos.scan import PhotoFile, scan_photos
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import StoreError, check_int, check_number
from geoguesser.geo.distance import from_unit, to_unit

PHOTO_PLACE_COLUMNS = ("uuid", "latitude", "longitude", "date", "provider")


@dataclass(frozen=True)
class PhotoPlace:
    """Place made of photos, which are in `views` by the index of their heading in `HEADINGS`."""

    views: dict[int, PhotoFile]

    @property
    def place_id(self) -> str:
        """Id derived from the bytes of the photos and their headings, so that it is the same in every run."""
        text = "\n".join(f"{HEADINGS[index]} {photo.digest}" for index, photo in sorted(self.views.items()))
        return str(uuid.UUID(bytes=xxhash.xxh3_128_digest(text.encode())))

    @property
    def photos(self) -> list[PhotoFile]:
        """Distinct photos of the place, in the order of their headings. A panorama occurs once."""
        return list({photo.digest: photo for _, photo in sorted(self.views.items())}.values())

    @property
    def position_deg(self) -> tuple[float, float]:
        """Mean latitude and longitude of the photos."""
        positions = np.array([photo.tags.position_deg for photo in self.photos])
        latitude, longitude = from_unit(to_unit(positions).mean(axis=0))
        return float(latitude), float(longitude)

    @property
    def date(self) -> str:
        """Earliest day on which a photo was taken; empty if unknown."""
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

    Also writes sources.csv (the photo of each view) and skipped.csv (photos that were not used as a view, and the
    reasons). A run that was stopped can be continued. The same photos always give the same places.

    Files in JPEG, PNG or WebP are searched recursively in `folder`, and only read. The other arguments are the
    keys of `photos` in conf/collect.yaml, which describes them.

    Returns:
        Counts: files, places, views, panoramas (used), complete (places with four views), written, skipped, and
        skipped_KIND for each kind, and

        - there: places that an earlier run wrote
        - left_over: folders of an earlier run that data.csv no longer names
        - magnetic, unstated: photos whose direction is from magnetic north, or does not name its north
        - tilted: tilted panoramas

    Raises:
        ConfigError: A number is out of its range, or `out` holds places that were made with other settings.
        MissingFileError: The folder does not exist or contains no photo.
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
        rule = f"holds places that were downloaded from a provider ({DATABASE_NAME})"
        raise StoreError.at(f"out={target}", rule, remedy=OTHER_FOLDER_REMEDY)
    paths = writer.list_photos(source, target, "photos.folder")
    writer.record_settings(target, {"fov_deg": float(fov_deg), "size": size, "quality": quality})

    skipped: list[writer.SkippedFile] = []
    photos = scan_photos(paths, skipped, fov_deg=fov_deg, size=size)
    places = _make_places(
        photos, skipped, group_m=group_m, group_s=group_s, tolerance_deg=tolerance_deg, min_views=min_views
    )

    counts = Counter({"written": 0, "there": 0})
    for place in tqdm(places, desc="writing places", unit=" places", disable=None, leave=False):
        view_folder = target / "images" / place.place_id
        if all((view_folder / f"{HEADINGS[index]}.jpg").is_file() for index in place.views):
            counts["there"] += 1
        else:
            _write_views(place, view_folder, fov_deg, size, quality)
            counts["written"] += 1

    _write_tables(source, target, places)
    skip_counts = writer.write_skipped(source, target, skipped)

    # Folders of an earlier run that data.csv no longer names are counted, and not touched.
    view_folders = {path.name for path in (target / "images").glob("[!.]*")}
    return {
        "files": len(paths),
        **_count_places(places),
        **counts,
        "left_over": len(view_folders - {place.place_id for place in places}),
        **skip_counts,
    }


def _make_places(
    photos: list[PhotoFile],
    skipped: list[writer.SkippedFile],
    *,
    group_m: float,
    group_s: float | None,
    tolerance_deg: float,
    min_views: int,
) -> list[PhotoPlace]:
    coords = np.array([photo.tags.position_deg for photo in photos], dtype=np.float64).reshape(-1, 2)
    # The leader of a group is the photo that started it, from which distances and times are measured.
    leaders = group_photos(coords, [photo.tags.taken for photo in photos], group_m=group_m, group_s=group_s)
    groups: dict[int, list[PhotoFile]] = defaultdict(list)
    for photo, leader in zip(photos, leaders.tolist(), strict=True):
        groups[leader].append(photo)

    places = []
    for group in groups.values():
        views = _assign_headings(group, skipped, tolerance_deg)
        if len(views) < min_views:
            reason = f"its place has {len(views)} views, and min_views is {min_views}"
            skipped += [(photo.path, "few_views", reason) for photo in views.values()]
        elif views:
            places.append(PhotoPlace(views))
    return places


def _assign_headings(
    photos: list[PhotoFile], skipped: list[writer.SkippedFile], tolerance_deg: float
) -> dict[int, PhotoFile]:
    """Returns the photos of a place by index of their heading. A panorama takes all four headings."""
    # The views of a panorama have one position and time, so it replaces separate photos.
    panorama = next((photo for photo in photos if photo.is_panorama), None)
    if panorama is not None:
        reason = f"{panorama.path.name} is a panorama of the place"
        skipped += [(photo.path, "heading_taken", reason) for photo in photos if photo is not panorama]
        return dict.fromkeys(range(len(HEADINGS)), panorama)

    directions = np.array([photo.tags.direction_deg for photo in photos], dtype=np.float64)
    heading_indices, deviations = find_nearest_headings(directions)
    views: dict[int, PhotoFile] = {}
    # The photo nearest to a heading is assigned first.
    for index in np.argsort(deviations, kind="stable").tolist():
        photo, heading_index = photos[index], int(heading_indices[index])
        heading = HEADINGS[heading_index]
        if deviations[index] > tolerance_deg:
            reason = f"faces {directions[index]:.1f} degrees, {deviations[index]:.1f} from the heading {heading}"
            skipped.append((photo.path, "between_headings", reason))
        elif heading_index in views:
            reason = f"{views[heading_index].path.name} faces closer to the heading {heading}"
            skipped.append((photo.path, "heading_taken", reason))
        else:
            views[heading_index] = photo
    return views


def _write_views(place: PhotoPlace, folder: Path, fov_deg: float, size: int, quality: int) -> None:
    first = place.photos[0]
    if first.is_panorama:
        data, direction_deg = writer.read_image_file(first.path), first.tags.direction_deg
        views = cut_panorama(
            data, first.tags, where=str(first.path), compass_deg=direction_deg, fov_deg=fov_deg, size=size
        )
        images = {index: views[index] for index in place.views}
    else:
        images = {
            index: writer.decode_photo(writer.read_image_file(photo.path), size, str(photo.path))
            for index, photo in place.views.items()
        }

    files = {f"{HEADINGS[index]}.jpg": writer.encode_view(image, quality) for index, image in images.items()}
    writer.write_view_folder(folder, files)


def _write_tables(source: Path, out: Path, places: list[PhotoPlace]) -> None:
    """Writes data.csv and sources.csv. Paths are relative to the folder of photos."""
    places = sorted(places, key=lambda place: place.place_id)
    place_rows = [(place.place_id, *place.position_deg, place.date, "photos") for place in places]
    writer.write_records(out / PLACES_FILE, place_rows, PHOTO_PLACE_COLUMNS)

    view_rows = [
        (place.place_id, HEADINGS[index], photo.path.relative_to(source), photo.tags.direction_deg)
        for place in places
        for index, photo in sorted(place.views.items())
    ]
    writer.write_records(out / "sources.csv", view_rows, ("uuid", "heading", "file", "direction_deg"))


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
