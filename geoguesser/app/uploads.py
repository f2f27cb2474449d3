"""Views of a place from uploaded photos, or from a folder inside the allowed root.

The format of a photo is read from its first bytes; decoder processes read the pixels.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from geoguesser.app.decoders import Decoders, DecodingError, decode_views
from geoguesser.app.limits import Limits
from geoguesser.app.problems import ProblemError
from geoguesser.app.schemas import COMPASS
from geoguesser.data.image_limits import TooLargeError
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import HEADINGS, is_view, list_names
from geoguesser.errors import DataError


def read_views(
    photos: Sequence[bytes | None], specs: Sequence[ImageSpec], limits: Limits, decoders: Decoders
) -> tuple[list[Tensor], Tensor]:
    """Decodes the (4,) photos of one place, in which None is a missing view, for each image spec.

    Returns:
        (1, 4, 3, S, S) uint8 for each spec, and the (1, 4) mask of views present.

    Raises:
        ProblemError: 413, 415 or 422, with the heading of the photo that cannot be used.
    """
    images = [np.zeros((1, 4, 3, spec.size, spec.size), dtype=np.uint8) for spec in specs]
    for name, data in zip(COMPASS, photos, strict=True):
        if data is not None:
            check_format(data, name)

    for heading, data in enumerate(photos):
        if data is None:
            continue
        try:
            decoded = decoders.run(decode_views, data, specs, limits.megapixels * 1e6)
        except TooLargeError as error:
            raise ProblemError(413, f"{COMPASS[heading]} is too large ({error}).") from error
        except DecodingError as error:
            raise ProblemError(422, f"{COMPASS[heading]} cannot be decoded ({error}).") from error
        for views, view in zip(images, decoded, strict=True):
            views[0, heading] = view

    mask = torch.tensor([[data is not None for data in photos]])
    return [torch.from_numpy(views) for views in images], mask


def check_format(data: bytes, name: str) -> None:
    """Checks the first bytes of an image file.

    Raises:
        ProblemError: 415 if it is not a photo, 422 if it is empty.
    """
    if not data:
        raise ProblemError(422, f"{name} must be a photo; the file is empty.")
    is_webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    if not (is_webp or data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n"))):
        raise ProblemError(415, f"{name} must be a JPEG, PNG or WebP file; its bytes have another format.")


def show_name(path: Path) -> str:
    """Returns the name of a file or folder as text for a response, with escapes for bytes that are not UTF-8."""
    return os.fsencode(path.name).decode("utf-8", "backslashreplace")


def resolve_folder(root: Path, path: str) -> Path:
    """Resolves a client's path to a folder inside the resolved root.

    Raises:
        ProblemError: 404 if the path leads out of the root or is not a folder. The message is the same for both,
            so that it does not reveal which files exist outside the root.
    """
    parts = PurePosixPath(path).parts
    if path.isprintable() and "\\" not in path and not path.startswith("/") and ".." not in parts:
        # Names that are too long and circular links raise errors.
        try:
            folder = (root / path).resolve()
            if folder.is_relative_to(root) and folder.is_dir():
                return folder
        except (OSError, RuntimeError):
            pass
    raise ProblemError(404, "folder must be a folder inside the server's root, relative to it.")


def find_place_folders(root: Path, folder: Path, max_places: int) -> list[Path]:
    """Finds place folders: the folder itself if it holds views, otherwise the folders in it.

    Folders that are links to the outside of the resolved root are skipped.

    Raises:
        ProblemError: 422 if there are none or the folder cannot be read, 413 if there are too many.
    """
    try:
        entries = sorted(folder.iterdir())
        if any(is_view(file.name) and not file.is_dir() for file in entries):
            return [folder]
        places = [
            entry
            for entry in entries
            if not entry.name.startswith(".") and entry.is_dir() and entry.resolve().is_relative_to(root)
        ]
    except (OSError, RuntimeError) as error:
        # No permission, a folder that was removed in the meantime, or circular links.
        raise ProblemError(422, "folder cannot be read.") from error

    if not places:
        raise ProblemError(422, "folder must hold 0.jpg, 90.jpg, 180.jpg or 270.jpg, or folders that do.")
    if len(places) > max_places:
        raise ProblemError(413, f"folder must hold at most {max_places} places, got {len(places)}.")
    return places


def read_place_photos(root: Path, folder: Path, limits: Limits) -> list[bytes | None]:
    """Reads the (4,) image files of a place folder inside the resolved root by heading; None for a missing view.

    Raises:
        ProblemError: 422 if there are no photos, two for one heading, or one that cannot be read or lies outside
            the root; 413 if one is too large.
    """
    try:
        names, doubled = list_names(str(folder))
    except (OSError, DataError) as error:
        raise ProblemError(422, f"{show_name(folder)} cannot be read.") from error

    if doubled:
        raise ProblemError(
            422, f"{show_name(folder)} must hold one file for each heading, got {', '.join(doubled)}."
        )
    if not any(names):
        examples = ", ".join(f"{heading}.jpg" for heading in HEADINGS)
        raise ProblemError(422, f"{show_name(folder)} must hold one to four of {examples}.")
    return [None if name is None else _read_photo(root, folder / name, limits) for name in names]


def _read_photo(root: Path, path: Path, limits: Limits) -> bytes:
    name = f"{show_name(path.parent)}/{show_name(path)}"
    try:
        path = path.resolve()
        # Reading a pipe would never end.
        if not path.is_relative_to(root) or not path.is_file():
            raise ProblemError(422, f"{name} must be a file inside the server's root.")
        if path.stat().st_size > limits.upload_bytes:
            raise ProblemError(413, f"{name} must have at most {limits.upload_mib:g} MiB.")
        return path.read_bytes()
    except OSError as error:
        raise ProblemError(422, f"{name} cannot be read.") from error
