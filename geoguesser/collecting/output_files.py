"""View files: whether an image is a whole view that shows something, and how it comes onto the disk at once."""

from __future__ import annotations

from pathlib import Path

from geoguesser.data.checks.inspection import describe_placeholder
from geoguesser.data.images import ImageSpec, decode_rgb, read_header
from geoguesser.errors import StoreError
from geoguesser.system.files import write_bytes

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
    if reason := describe_placeholder(header, LOOK.fit_image(image)):
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
    """Writes a view atomically and flushes it to the disk; its folder is created if it is missing.

    Raises:
        StoreError: The disk is full, or the like.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, data, durable=True, exclusive=True)
    except OSError as error:
        raise StoreError.at(str(path), f"cannot be written ({error.strerror or error})") from error
