"""View files: check that an image is complete and shows something, and atomic writing."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from geoguesser.collecting.database import DATABASE_NAME
from geoguesser.data.checks.inspection import describe_placeholder
from geoguesser.data.images import ImageSpec, decode_rgb, read_header
from geoguesser.data.place_files import HEADINGS, check_inside
from geoguesser.errors import DataError, StoreError
from geoguesser.system.files import write_bytes
from geoguesser.system.received_files import is_plain_name

# Small copy of a view on which placeholders are recognised.
CHECK_SPEC = ImageSpec(size=112)


class PlaceholderError(ValueError):
    """Complete image that shows nothing: it is grey, or tiny."""


def check_view(data: bytes) -> None:
    """Checks a view by decoding it to its end.

    Raises PlaceholderError for a placeholder for missing imagery, another ValueError for an incomplete JPEG.
    """
    header = read_header(data)
    if not data.startswith(b"\xff\xd8"):
        raise ValueError("no JPEG")
    image = decode_rgb(data, header, CHECK_SPEC.size)
    if reason := describe_placeholder(header, CHECK_SPEC.resize_hwc(image)):
        raise PlaceholderError(reason)


def get_view_path(out: Path, uuid: str, heading_deg: int) -> Path:
    """Returns the path of a view.

    Raises:
        DataError: The id, which comes from the database, or a link would lead out of the folder of images.
    """
    folder = out / "images"
    if not is_plain_name(uuid) or heading_deg not in HEADINGS:
        rule = "must name places and headings whose files lie in images/"
        raise DataError.at(str(out / DATABASE_NAME), rule, found=f"{uuid}, {heading_deg}")
    check_inside(str(folder / uuid), str(Path(os.path.realpath(out)) / "images"))
    return folder / uuid / f"{heading_deg}.jpg"


def get_complete_view_size(path: Path) -> int:
    """Returns the size of a view in bytes; 0 if the file is missing or not a complete view."""
    try:
        data = path.read_bytes()
        check_view(data)
    except (OSError, ValueError):
        return 0
    return len(data)


@contextmanager
def convert_write_errors(path: Path, remedy: str = "") -> Iterator[None]:
    """Raises StoreError for each OSError."""
    try:
        yield
    except OSError as error:
        rule = f"cannot be written ({error.strerror or error})"
        raise StoreError.at(str(path), rule, remedy=remedy) from error


def write_view(path: Path, data: bytes) -> None:
    """Writes a view atomically: after a kill or power failure the file is complete or missing.

    Raises StoreError if the file cannot be written, for example because the disk is full.
    """
    with convert_write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data, durable=True, exclusive=True)
