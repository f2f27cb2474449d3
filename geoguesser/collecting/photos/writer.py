"""Reads photos, and writes folders of views, tables and settings atomically.

Views are re-encoded, so that EXIF, position and camera of the original are not copied.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import simplejpeg

from geoguesser.arrays import ByteArray
from geoguesser.collecting.output_files import convert_write_errors
from geoguesser.data.images import SUFFIXES, decode_rgb, read_bytes, read_header
from geoguesser.errors import ConfigError, DataError, MissingFileError
from geoguesser.system.files import flush_to_disk, replace_folder, write_csv, write_json
from geoguesser.system.received_files import read_json

WRITE_REMEDY = "Free disk space, make the folder writable, or choose another with out=FOLDER."

# File that is not used as a view: its path, the kind of the reason, and the reason.
SkippedFile = tuple[Path, str, str]
UNSUPPORTED_SUFFIXES = (".heic", ".heif", ".avif", ".tif", ".tiff", ".dng", ".cr2", ".nef", ".arw")


def encode_view(view: ByteArray, quality: int) -> bytes:
    """Encodes an (H, W, 3) RGB image as a JPEG without EXIF."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(view), quality=quality, colorspace="RGB"))


def decode_image(data: bytes, where: str, shorter_side_px: int | None = None) -> ByteArray:
    """Decodes an image, upright by its EXIF orientation, at a scale that suffices for a shorter side (None: all).

    Raises DataError if the file is broken or truncated. The message names `where`.
    """
    try:
        header = read_header(data)
        return decode_rgb(data, header, shorter_side_px or max(header.height, header.width))
    except ValueError as error:
        raise DataError.at(where, f"is not a complete image ({error})") from error


def decode_photo(data: bytes, shorter_side_px: int, where: str) -> ByteArray:
    """Decodes a photo as `decode_image`, and reduces it if its shorter side has more than `shorter_side_px`."""
    image = decode_image(data, where, shorter_side_px)
    scale = shorter_side_px / min(image.shape[:2])
    if scale >= 1.0:
        return image
    height, width = (max(shorter_side_px, round(length * scale)) for length in image.shape[:2])
    return np.asarray(cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def list_photos(folder: Path, out: Path, key: str) -> list[Path]:
    """Lists all image files under a folder, sorted, except hidden ones, links out, and those under `out`.

    Raises MissingFileError if the folder, `key` in the config, does not exist or contains no such file, and
    ConfigError if `out` is the folder itself.
    """
    if not folder.is_dir():
        raise MissingFileError.at(key, "must be a folder", found=str(folder))
    root, out_folder = folder.resolve(), out.resolve()
    if out_folder == root:
        raise ConfigError.at("out", "must not be the folder of the photos itself", found=str(out))

    paths = []
    for path in sorted(folder.rglob("*")):
        is_hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        is_image = path.suffix.lower() in (*SUFFIXES, *UNSUPPORTED_SUFFIXES)
        resolved = path.resolve()
        # Links out of the folder would publish other photos of this machine.
        is_inside = resolved.is_relative_to(root) and out_folder not in resolved.parents
        if is_image and path.is_file() and not is_hidden and is_inside:
            paths.append(path)
    if not paths:
        raise MissingFileError.at(key, "must contain JPEG, PNG or WebP files", found=str(folder))
    return paths


def read_image_file(path: Path) -> bytes:
    """Reads the bytes of a photo of a supported format."""
    if path.suffix.lower() in UNSUPPORTED_SUFFIXES:
        raise DataError.at(str(path), "must be a JPEG, PNG or WebP", found=path.suffix, remedy="Convert it.")
    return read_bytes(path)


def write_view_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder of files atomically and flushes them to the disk; an existing folder is replaced.

    Raises StoreError if the folder cannot be written, for example because the disk is full.
    """
    with convert_write_errors(folder, WRITE_REMEDY), replace_folder(folder) as temporary:
        for name, data in files.items():
            with (temporary / name).open("xb") as stream:
                stream.write(data)
                flush_to_disk(stream)


def write_records(path: Path, rows: Sequence[Any], columns: tuple[str, ...]) -> None:
    """Writes a CSV file atomically. Numbers have 7 decimals; one unit of the last is about 1 cm of latitude."""
    with convert_write_errors(path, WRITE_REMEDY):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_csv(path, pd.DataFrame(rows, columns=list(columns)))


def write_skipped(source: Path, out: Path, skipped: list[SkippedFile]) -> dict[str, int]:
    """Writes skipped.csv, sorted by path relative to `source`; returns counts, in total and as `skipped_KIND`."""
    rows = sorted((str(path.relative_to(source)), kind, reason) for path, kind, reason in skipped)
    write_records(out / "skipped.csv", rows, ("file", "kind", "reason"))
    kinds = Counter(f"skipped_{kind}" for _, kind, _ in skipped)
    return {"skipped": len(skipped), **dict(sorted(kinds.items()))}


def record_settings(out: Path, settings: dict[str, Any]) -> None:
    """Records the settings of the views in a folder, so that it never mixes views of different settings.

    Raises ConfigError if the folder contains views that were made with other settings.
    """
    file = out / "settings.json"
    if file.is_file():
        try:
            old = dict(read_json(file))
        except (ValueError, TypeError) as error:
            raise DataError.at(
                str(file), "must be valid JSON", remedy="Choose another folder with out=FOLDER."
            ) from error
        changed = ", ".join(
            f"{name} {old.get(name)!r}, now {settings.get(name)!r}"
            for name in sorted({*old, *settings})
            if old.get(name) != settings.get(name)
        )
        if changed:
            raise ConfigError(
                f"out={out} contains views made with other settings: {changed}. "
                "Choose another folder with out=FOLDER."
            )
        return
    with convert_write_errors(out, WRITE_REMEDY):
        out.mkdir(parents=True, exist_ok=True)
        write_json(file, settings)


def format_summary(counts: dict[str, Any]) -> list[str]:
    """Formats counts as one line each, in their order. `skipped_KIND` is shown as `skipped KIND`."""
    width = max(len(name) for name in counts)
    return [
        f"{name.replace('_', ' ', 1) if name.startswith('skipped_') else name:<{width}}  {count:,}"
        for name, count in counts.items()
    ]
