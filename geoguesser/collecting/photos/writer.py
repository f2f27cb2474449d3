"""Written views: folders of JPEG files that are there whole or not at all, and the tables beside them.

Views are encoded afresh, so no EXIF, position or camera of the original goes with them.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pandas as pd
import simplejpeg

from geoguesser.data.images import SUFFIXES, decode_rgb, read_bytes, read_header
from geoguesser.errors import ConfigError, DataError, MissingFileError, StoreError

ByteArray = npt.NDArray[np.uint8]

ELSEWHERE = "Make room or give yourself the right to write there, or name another out."
UNREADABLE = (".heic", ".heif", ".avif", ".tif", ".tiff", ".dng", ".cr2", ".nef", ".arw")


def encode(view: ByteArray, quality: int) -> bytes:
    """(H, W, 3) RGB -> the bytes of a JPEG without EXIF."""
    return bytes(simplejpeg.encode_jpeg(np.ascontiguousarray(view), quality=quality, colorspace="RGB"))


def read_photo(data: bytes, least: int, where: str) -> ByteArray:
    """Decodes a photo upright; its shorter side is `least` pixels where it is larger.

    Raises:
        DataError: Broken or truncated.
    """
    try:
        image = decode_rgb(data, read_header(data), least)
    except ValueError as error:
        raise DataError.at(where, f"is no whole image ({error})") from error
    scale = least / min(image.shape[:2])
    if scale < 1.0:
        size = (max(least, round(image.shape[1] * scale)), max(least, round(image.shape[0] * scale)))
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)
    return image


def photo_files(folder: Path, out: Path, key: str) -> list[Path]:
    """All files of photos under a folder, sorted; those under `out` and hidden ones are not of them.

    Raises:
        MissingFileError: There is no such folder, or no such file in it.
        ConfigError: `out` is the folder itself.
    """
    if not folder.is_dir():
        raise MissingFileError.at(key, "must be a folder", found=str(folder))
    own = out.resolve()
    if own == folder.resolve():
        raise ConfigError.at("out", "must not be the folder of the photos itself", found=str(out))
    found = []
    for path in sorted(folder.rglob("*")):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        wanted = path.suffix.lower() in (*SUFFIXES, *UNREADABLE)
        if wanted and path.is_file() and not hidden and own not in path.resolve().parents:
            found.append(path)
    if not found:
        raise MissingFileError.at(key, "must hold JPEG, PNG or WebP files", found=str(folder))
    return found


def read_file(path: Path) -> bytes:
    """The bytes of a photo.

    Raises:
        DataError: It cannot be read, or its format is none of ours.
    """
    if path.suffix.lower() in UNREADABLE:
        raise DataError.at(str(path), "must be a JPEG, PNG or WebP", found=path.suffix, remedy="Convert it.")
    return read_bytes(path)


def write_folder(folder: Path, files: Mapping[str, bytes]) -> None:
    """Writes a folder of files in one step: it is complete, or not there. One that is there is replaced.

    Raises:
        StoreError: The disk is full, or the like.
    """
    part = folder.with_name(f".{folder.name}.part")
    with _writing(folder):
        shutil.rmtree(part, ignore_errors=True)
        part.mkdir(parents=True)
        for name, data in files.items():
            with (part / name).open("wb") as stream:
                stream.write(data)
                stream.flush()
                os.fsync(stream.fileno())
        if folder.exists():
            shutil.rmtree(folder)
        os.replace(part, folder)


def write_table(path: Path, rows: list[dict[str, Any]], columns: tuple[str, ...]) -> None:
    """Writes a CSV file atomically; numbers with 7 decimals (1 cm).

    Raises:
        StoreError: The disk is full, or the like.
    """
    fresh = path.with_name(f".{path.name}.part")
    with _writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        pd.DataFrame(rows, columns=list(columns)).to_csv(fresh, index=False, float_format="%.7f")
        os.replace(fresh, path)


def keep_settings(out: Path, settings: dict[str, Any]) -> None:
    """Notes what views in a folder are made with, so that another run does not mix others among them.

    Raises:
        ConfigError: The folder holds views that were made with other settings.
        StoreError: It cannot be written.
    """
    file = out / "settings.json"
    if file.is_file():
        try:
            old = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise DataError.at(
                str(file), "must be JSON as it was written here", remedy="Use another out."
            ) from error
        names = sorted(name for name in {*old, *settings} if old.get(name) != settings.get(name))
        if names:
            changed = ", ".join(f"{name} {old.get(name)!r}, now {settings.get(name)!r}" for name in names)
            raise ConfigError(f"out {out} holds views made with other settings: {changed}. Use another out.")
        return
    fresh = file.with_name(f".{file.name}.part")
    with _writing(out):
        out.mkdir(parents=True, exist_ok=True)
        fresh.write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")
        os.replace(fresh, file)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise StoreError.at(
            str(path), f"cannot be written ({error.strerror or error})", remedy=ELSEWHERE
        ) from error


def summary_lines(report: dict[str, Any]) -> list[str]:
    """What became of photos or panoramas, as a line per count, in the order of the report."""
    width = max(len(name) for name in report)
    return [
        f"{name.replace('_', ' ', 1) if name.startswith('skipped_') else name:<{width}}  {count:,}"
        for name, count in report.items()
    ]
