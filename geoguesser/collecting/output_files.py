"""View files: whether an image is a whole view that shows something, and how it comes onto the disk at once."""

from __future__ import annotations

import os
from pathlib import Path

from geoguesser.data.checks.inspection import is_placeholder
from geoguesser.data.images import ImageSpec, decode_rgb, read_header
from geoguesser.errors import StoreError

LOOK = ImageSpec(size=112)  # the size at which a view is looked at


class PlaceholderError(ValueError):
    """A whole image that shows nothing: grey, or tiny."""


def check_view(data: bytes) -> None:
    """Decodes an image to its end.

    Raises:
        PlaceholderError: It stands for an image that is not there.
        ValueError: It is no JPEG, or not whole.
    """
    header = read_header(data)
    if not data.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG")
    image = decode_rgb(data, header, LOOK.size)
    if reason := is_placeholder(header, LOOK.fitted(image)):
        raise PlaceholderError(reason)


def view_path(out: Path, uuid: str, heading_deg: int) -> Path:
    """Where a view lies."""
    return out / "images" / uuid / f"{heading_deg}.jpg"


def whole_view(path: Path) -> int:
    """The bytes of a view that is whole on disk, 0 where there is none: a kill may have come before its record."""
    try:
        data = path.read_bytes()
        check_view(data)
    except (OSError, ValueError):
        return 0
    return len(data)


def write_view(path: Path, data: bytes) -> None:
    """Writes a file so that it is there whole or not at all, whatever happens.

    Raises:
        StoreError: The disk is full, or the like.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, data)
    except OSError as error:
        raise StoreError.at(str(path), f"cannot be written ({error.strerror or error})") from error


def write_atomically(path: Path, data: bytes) -> None:
    """Writes beside, flushes to disk, and renames; then flushes the folder, for a name can be lost too."""
    part = path.with_name(f".{path.name}.part")
    with part.open("wb") as stream:
        stream.write(data)
        stream.flush()
        os.fsync(stream.fileno())
    part.replace(path)
    flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Flushes the names in a folder to disk, where the system can."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
