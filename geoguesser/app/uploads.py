"""Uploads: the bytes of photos, from a request or from a folder inside the allowed root, made into views.

What a photo is, its bytes say, not its name. Its size in pixels is read from its header before any is decoded.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path, PurePosixPath

import numpy as np
import torch
from torch import Tensor

from geoguesser.app.limits import Limits
from geoguesser.app.problems import ProblemError
from geoguesser.app.schemas import COMPASS
from geoguesser.arrays import ByteArray
from geoguesser.data.checks.inspection import HEADINGS
from geoguesser.data.images import MAX_PIXELS, SUFFIXES, Header, ImageSpec, TooLargeError, decode_rgb, read_header
from geoguesser.data.places import list_names
from geoguesser.errors import DataError, first_line


def read_views(
    photos: Sequence[bytes | None], specs: Sequence[ImageSpec], limits: Limits
) -> tuple[list[Tensor], Tensor]:
    """Decodes one place's photos.

    Args:
        photos: (4,) bytes by heading; None where there is none.
        specs: How a model's members want them.
        limits: How large one may be.

    Returns:
        For each of `specs` (1, 4, 3, S, S) uint8, and the (1, 4) mask.

    Raises:
        ProblemError: 415, 413 or 422; it names the heading.
    """
    out = [np.zeros((1, 4, 3, spec.size, spec.size), dtype=np.uint8) for spec in specs]
    for heading, data in enumerate(photos):
        if data is None:
            continue
        header = check_header(data, COMPASS[heading], limits)
        for views, spec in zip(out, specs, strict=True):
            views[0, heading] = _view(data, header, spec, COMPASS[heading])
    mask = torch.tensor([[data is not None for data in photos]])
    return [torch.from_numpy(views) for views in out], mask


def _view(data: bytes, header: Header, spec: ImageSpec, where: str) -> ByteArray:
    try:
        return spec.resize(decode_rgb(data, header, spec.size))
    except Exception as error:  # Pillow raises many things over damaged files, and none of them is ours
        raise ProblemError(422, f"{where} is no whole image ({first_line(error)}).") from error


def check_header(data: bytes, where: str, limits: Limits) -> Header:
    """What a photo says of itself.

    Raises:
        ProblemError: It is none (415), damaged (422), or too large (413).
    """
    if not data:
        raise ProblemError(422, f"{where} must be a photo; the file is empty.")
    if not is_photo(data):
        raise ProblemError(415, f"{where} must be a JPEG, PNG or WebP file; its bytes are none.")
    try:
        header = read_header(data)
    except TooLargeError as error:
        most = min(limits.megapixels, MAX_PIXELS / 1e6)
        raise ProblemError(413, f"{where} must have at most {most:g} megapixels; it has far more.") from error
    except Exception as error:  # as in `_view`
        raise ProblemError(422, f"{where} is no whole image ({first_line(error)}).") from error
    if header.width * header.height > limits.megapixels * 1e6:
        size = f"{header.width} x {header.height} pixels"
        raise ProblemError(413, f"{where} must have at most {limits.megapixels:g} megapixels, got {size}.")
    return header


def is_photo(data: bytes) -> bool:
    """Whether the first bytes are those of a JPEG, PNG or WebP file."""
    webp = data[:4] == b"RIFF" and data[8:12] == b"WEBP"
    return data.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")) or webp


def resolve_folder(root: Path, given: str) -> Path:
    """The folder that a client names, if it lies inside the root.

    Args:
        root: The allowed root, resolved.
        given: Relative to it, with slashes.

    Raises:
        ProblemError: It leads out, or is no folder; both say the same, so that nobody learns what lies outside.
    """
    parts = PurePosixPath(given).parts
    plain = given.isprintable() and "\\" not in given and not given.startswith("/") and ".." not in parts
    try:
        found = (root / given).resolve() if plain else None
        if found is not None and found.is_relative_to(root) and found.is_dir():
            return found
    except (OSError, RuntimeError):  # a name that is too long, links in a ring
        pass
    raise ProblemError(404, "folder must be a folder inside the server's root, relative to it.")


def find_place_folders(root: Path, folder: Path, most: int) -> list[Path]:
    """The place folders that a folder means: itself, where it holds views, else those in it; links out are none.

    Raises:
        ProblemError: There is none, there are too many, or the folder cannot be read.
    """
    stems = {str(heading) for heading in HEADINGS}
    try:
        entries = sorted(folder.iterdir())
        if any(one.stem in stems and one.suffix.lower() in SUFFIXES and not one.is_dir() for one in entries):
            return [folder]
        inside = [
            one
            for one in entries
            if not one.name.startswith(".") and one.is_dir() and one.resolve().is_relative_to(root)
        ]
    except (OSError, RuntimeError) as error:  # not ours to read, gone meanwhile, links in a ring
        raise ProblemError(422, "folder cannot be read.") from error
    if not inside:
        raise ProblemError(422, "folder must hold 0.jpg, 90.jpg, 180.jpg or 270.jpg, or folders that do.")
    if len(inside) > most:
        raise ProblemError(413, f"folder must hold at most {most} places, got {len(inside)}.")
    return inside


def list_photo_names(folder: Path) -> list[str | None]:
    """(4,) the names of a place's files by heading.

    Raises:
        ProblemError: A heading has two files, a link leads out, or the folder cannot be read.
    """
    try:
        names, doubled = list_names(str(folder))
    except (OSError, DataError) as error:
        raise ProblemError(422, f"{folder.name} cannot be read.") from error
    if doubled:
        raise ProblemError(422, f"{folder.name} must hold one file for each heading, got {', '.join(doubled)}.")
    return list(names)


def read_place_photos(root: Path, folder: Path, limits: Limits) -> list[bytes | None]:
    """(4,) the bytes of a place's files by heading.

    Args:
        root: The allowed root, resolved; no link may lead out of it.
        folder: The place's.
        limits: How large a file may be.

    Raises:
        ProblemError: There is none, or one is too large, no file, or outside the root.
    """
    names = list_photo_names(folder)
    if not any(names):
        wanted = ", ".join(f"{heading}.jpg" for heading in HEADINGS)
        raise ProblemError(422, f"{folder.name} must hold one to four of {wanted}.")
    return [None if name is None else _bytes(root, folder / name, limits) for name in names]


def _bytes(root: Path, file: Path, limits: Limits) -> bytes:
    where = f"{file.parent.name}/{file.name}"
    try:
        file = file.resolve()
        if not file.is_relative_to(root) or not file.is_file():  # a pipe would be read for ever
            raise ProblemError(422, f"{where} must be a file inside the server's root.")
        if file.stat().st_size > limits.upload_bytes:
            raise ProblemError(413, f"{where} must have at most {limits.upload_mib:g} MiB.")
        return file.read_bytes()
    except OSError as error:
        raise ProblemError(422, f"{where} cannot be read.") from error
