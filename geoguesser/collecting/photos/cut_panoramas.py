"""Cutting: panoramas of one's own become folders of views. What a view is, is collecting/panorama.py."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from tqdm import tqdm

from geoguesser.arrays import ByteArray
from geoguesser.collecting.panorama import cut_views
from geoguesser.collecting.photos.exif import Tags, band_of, read_tags
from geoguesser.collecting.photos.writer import (
    encode,
    keep_settings,
    photo_files,
    read_file,
    write_folder,
    write_table,
)
from geoguesser.data.images import decode_rgb, read_header
from geoguesser.data.place_files import HEADINGS
from geoguesser.errors import ConfigError, DataError, check_int, check_number

UNTURNED = "no PoseHeadingDegrees or GPSImgDirection; panoramas.compass_deg=... gives one to all files"


def cut_files(
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
    """Cuts every panorama under a folder into `out/NAME/HEADING.jpg`; what is there whole is not cut again.

    Args:
        folder: JPEG, PNG or WebP files, in folders or not; they are only read.
        out: Where the views go, and skipped.csv with the files that were not cut and why.
        compass_deg: Compass heading of the middle column of all files; None takes it from each file.
        headings_deg: Compass headings of the views.
        pitch_deg: How far the views look up.
        fov_deg: Field of view.
        size: Height and width of a view in pixels.
        quality: Of JPEG, from 1 to 100.

    Returns:
        files, cut, there (already), tilted (by their tags; not undone), magnetic (headings), skipped (all), and
        skipped_KIND for each kind.

    Raises:
        ConfigError: A number is out of its range, or `out` holds views of other settings.
        DataError: Two files would have the same folder.
        MissingFileError: There is no such folder, or no such file in it.
        StoreError: `out` cannot be written.
    """
    check_look("panoramas", headings_deg, pitch_deg=pitch_deg, fov_deg=fov_deg, size=size, quality=quality)
    if compass_deg is not None:
        check_number("panoramas.compass_deg", compass_deg)
    source, target = Path(folder).expanduser(), Path(out).expanduser()
    names = _names(source, photo_files(source, target, "panoramas.folder"))
    look = {"pitch_deg": float(pitch_deg), "fov_deg": float(fov_deg), "size": size}
    headings = [float(heading) for heading in headings_deg]
    settings = {"compass_deg": compass_deg, "headings_deg": headings, "quality": quality, **look}
    keep_settings(target, settings)
    counts, skipped = Counter({"files": len(names), "cut": 0, "there": 0, "tilted": 0, "magnetic": 0}), []
    for name, path in tqdm(names.items(), desc="cutting panoramas", unit=" files", disable=None, leave=False):
        files = [f"{heading:g}.jpg" for heading in headings]
        if all((target / name / file).is_file() for file in files):
            counts["there"] += 1
            continue
        try:
            data = read_file(path)
            read_header(data)
            tags = read_tags(data)
            centre = tags.direction_deg if compass_deg is None else compass_deg
            if centre is None:
                skipped.append(_skip(source, path, "no_direction", UNTURNED))
                continue
            views = cut_sphere(data, tags, where=str(path), compass_deg=centre, headings_deg=headings, **look)
        except (DataError, ValueError) as error:
            skipped.append(_skip(source, path, "not_cut", str(error)))
            continue
        write_folder(target / name, {file: encode(view, quality) for file, view in zip(files, views, strict=True)})
        counts["cut"] += 1
        counts["tilted"] += tags.tilted
        counts["magnetic"] += compass_deg is None and tags.reference == "magnetic"
    write_table(target / "skipped.csv", skipped, ("file", "kind", "reason"))
    kinds = Counter(f"skipped_{one['kind']}" for one in skipped)
    return {**counts, "skipped": len(skipped), **dict(sorted(kinds.items()))}


def _skip(source: Path, path: Path, kind: str, reason: str) -> dict[str, str]:
    return {"file": str(path.relative_to(source)), "kind": kind, "reason": reason}


def cut_sphere(data: bytes, tags: Tags, *, where: str, **look: Any) -> ByteArray:
    """The bytes of a panorama -> (V, size, size, 3) views; `look` as `cut_views`, upright by EXIF before.

    Raises:
        DataError: It is broken, or no full sphere by its shape or its tags.
    """
    try:
        header = read_header(data)
        image = decode_rgb(data, header, max(header.height, header.width))
    except ValueError as error:
        raise DataError.at(where, f"is no whole image ({error})") from error
    return cut_views(image, band=band_of(tags, image.shape[1], where), where=where, **look)


def check_look(
    key: str, headings_deg: Sequence[float], *, pitch_deg: float, fov_deg: float, size: int, quality: int
) -> None:
    """Checks all numbers of the config's node `key` before the first file is read.

    Raises:
        ConfigError: One is out of its range, or a heading is named twice.
    """
    if not isinstance(headings_deg, list | tuple):
        raise ConfigError.at(f"{key}.headings_deg", "must be a list of numbers", found=headings_deg)
    for heading in headings_deg:
        check_number(f"{key}.headings_deg", heading, low=-360.0, high=360.0)
    turns = [float(heading) % 360.0 for heading in headings_deg]
    if not turns or len(set(turns)) < len(turns):
        raise ConfigError.at(
            f"{key}.headings_deg", "must name at least one heading, each once", found=list(headings_deg)
        )
    check_number(f"{key}.pitch_deg", pitch_deg, low=-90.0, high=90.0)
    check_number(f"{key}.fov_deg", fov_deg, low=1.0, high=150.0)
    check_int(f"{key}.size", size, low=16, high=4096)
    check_int(f"{key}.quality", quality, low=1, high=100)


def _names(source: Path, paths: list[Path]) -> dict[str, Path]:
    """Files by the name of their folder of views: `trip/a.jpg` is `trip_a`."""
    names: dict[str, Path] = {}
    for path in paths:
        name = "_".join(path.relative_to(source).with_suffix("").parts)
        if name in names:
            remedy = "Rename one of them."
            raise DataError.at(
                f"{names[name]} and {path}", "must not have one name for their views", found=name, remedy=remedy
            )
        names[name] = path
    return names
