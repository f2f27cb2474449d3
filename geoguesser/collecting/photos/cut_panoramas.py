"""Cutting of a folder of panoramas into folders of views. `collecting/panorama.py` cuts a single one."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from geoguesser.arrays import ByteArray
from geoguesser.collecting.panorama import cut_views
from geoguesser.collecting.photos import writer
from geoguesser.collecting.photos.exif import PhotoTags, find_row_band, read_tags
from geoguesser.data.images import read_header
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import ConfigError, DataError, check_int, check_number
from geoguesser.system.text import replace_unprintable

NO_HEADING = "no PoseHeadingDegrees or GPSImgDirection; panoramas.compass_deg=... gives one to all files"


def cut_panoramas(
    folder: str | Path,
    out: str | Path,
    *,
    compass_deg: float | None = None,
    headings_deg: Sequence[float] = HEADINGS,
    pitch_deg: float = 0.0,
    fov_deg: float = 90.0,
    size: int = 640,
    quality: int = 92,
) -> dict[str, Any]:
    """Cuts every panorama under a folder into `out/NAME/HEADING.jpg`. Complete folders are not cut again.

    Files in JPEG, PNG or WebP are searched recursively, and only read. `out` also gets skipped.csv, with the files
    that were not cut and the reasons. `compass_deg` is the compass heading of the middle column of all files; None
    reads it from each file. Views are those of `cut_views`, as JPEG with a `quality` from 1 to 100.

    Returns:
        Counts: files, cut, there (cut before), tilted (by their tags; not corrected), magnetic (headings), skipped
            (in total), and skipped_KIND for each kind.

    Raises:
        ConfigError: A number is out of its range, or `out` contains views that were made with other settings.
        DataError: Two files would have the same folder of views.
        MissingFileError: The folder does not exist or contains no such file.
        StoreError: `out` cannot be written.
    """
    check_view_settings(
        "panoramas", headings_deg, pitch_deg=pitch_deg, fov_deg=fov_deg, size=size, quality=quality
    )
    if compass_deg is not None:
        check_number("panoramas.compass_deg", compass_deg)

    source, target = Path(folder).expanduser(), Path(out).expanduser()
    path_by_name = _name_view_folders(source, writer.list_photos(source, target, "panoramas.folder"))
    view_settings = {"pitch_deg": float(pitch_deg), "fov_deg": float(fov_deg), "size": size}
    headings = [float(heading) for heading in headings_deg]
    file_settings = {"compass_deg": compass_deg, "headings_deg": headings, "quality": quality}
    writer.record_settings(target, file_settings | view_settings)

    counts = Counter({"files": len(path_by_name), "cut": 0, "there": 0, "tilted": 0, "magnetic": 0})
    skipped: list[writer.SkippedFile] = []
    view_names = [f"{heading:g}.jpg" for heading in headings]

    bar = tqdm(path_by_name.items(), desc="cutting panoramas", unit=" files", disable=None, leave=False)
    for name, path in bar:
        if all((target / name / view_name).is_file() for view_name in view_names):
            counts["there"] += 1
            continue

        try:
            data = writer.read_image_file(path)
            # A file that is not an image is reported as such, not as one without a heading.
            read_header(data)
            tags = read_tags(data)
            middle_deg = tags.direction_deg if compass_deg is None else compass_deg
            if middle_deg is None:
                skipped.append((path, "no_direction", NO_HEADING))
                continue
            views = cut_panorama(
                data, tags, where=str(path), compass_deg=middle_deg, headings_deg=headings, **view_settings
            )
        except (DataError, ValueError) as error:
            skipped.append((path, "not_cut", str(error)))
            continue

        files = {file: writer.encode_view(view, quality) for file, view in zip(view_names, views, strict=True)}
        writer.write_view_folder(target / name, files)
        counts["cut"] += 1
        counts["tilted"] += tags.is_tilted
        counts["magnetic"] += compass_deg is None and tags.reference == "magnetic"

    return {**counts, **writer.write_skipped(source, target, skipped)}


def cut_panorama(data: bytes, tags: PhotoTags, *, where: str, **view_settings: Any) -> ByteArray:
    """Decodes a panorama and cuts its views by further arguments of `cut_views`.

    Raises:
        DataError: The file is broken, or not a full sphere by its shape or its tags. The message names `where`.
    """
    image = writer.decode_image(data, where)
    return cut_views(image, band=find_row_band(tags, image.shape[1], where), where=where, **view_settings)


def check_view_settings(
    key: str, headings_deg: Sequence[float], *, pitch_deg: float, fov_deg: float, size: int, quality: int
) -> None:
    """Raises ConfigError if a number of the config's node `key` is out of its range, or a heading repeated."""
    if not isinstance(headings_deg, list | tuple):
        raise ConfigError.at(f"{key}.headings_deg", "must be a list of numbers", found=headings_deg)
    for heading in headings_deg:
        check_number(f"{key}.headings_deg", heading, low=-360.0, high=360.0)
    turns = [float(heading) % 360.0 for heading in headings_deg]
    if not turns or len(set(turns)) < len(turns):
        rule = "must name at least one heading, each once"
        raise ConfigError.at(f"{key}.headings_deg", rule, found=list(headings_deg))

    check_number(f"{key}.pitch_deg", pitch_deg, low=-90.0, high=90.0)
    check_number(f"{key}.fov_deg", fov_deg, low=1.0, high=150.0)
    check_int(f"{key}.size", size, low=16, high=4096)
    check_int(f"{key}.quality", quality, low=1, high=100)


def _name_view_folders(source: Path, paths: list[Path]) -> dict[str, Path]:
    """Returns files by the name of their folder of views: `trip/a.jpg` becomes `trip_a`.

    The name of a file that this step writes, such as `settings.json`, gets an underscore.
    """
    path_by_name: dict[str, Path] = {}
    for path in paths:
        name = replace_unprintable("_".join(path.relative_to(source).with_suffix("").parts))
        name += "_" if name.endswith((".csv", ".json")) else ""
        if name in path_by_name:
            rule = "must not have one name for their views"
            where = f"{path_by_name[name]} and {path}"
            raise DataError.at(where, rule, found=name, remedy="Rename one of them.")
        path_by_name[name] = path
    return path_by_name
