"""Pixels of places by row of their table, from memory or from files, and the decoding of one place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from geoguesser.arrays import ByteArray, IntArray
from geoguesser.data.images import ImageSpec, read_bytes
from geoguesser.data.place_files import HEADINGS, PlaceFiles, list_names
from geoguesser.errors import DataError
from geoguesser.system.cpu import count_cores

# Memory for the pixels of places that wait for their turn.
MAX_PREFETCH_BYTES = 2**26


class Views(ABC):
    """Views of a table of places."""

    @abstractmethod
    def gather(self, rows: IntArray) -> Tensor:
        """Returns the views of (B,) rows as (B, 4, 3, H, W) uint8."""

    @abstractmethod
    def take(self, rows: IntArray) -> Views:
        """Returns the views of the given rows only, in their order."""

    @property
    def benefits_from_workers(self) -> bool:
        """Returns whether loader processes help; if `gather` only copies, the transfer takes longer than it."""
        return False


class MemoryViews(Views):
    """Views in one tensor, (N, 4, 3, H, W) uint8."""

    def __init__(self, pixels: Tensor) -> None:
        self.pixels = pixels

    def gather(self, rows: IntArray) -> Tensor:
        # Ten times as fast as pixels[rows].
        return torch.index_select(self.pixels, 0, torch.from_numpy(rows))

    def take(self, rows: IntArray) -> MemoryViews:
        return MemoryViews(self.gather(rows))


class FileViews(Views):
    """Views that are decoded from their files each time; a view without a file is all zeros."""

    def __init__(self, places: Sequence[PlaceFiles], image: ImageSpec) -> None:
        self.places = list(places)
        self.image = image

    def gather(self, rows: IntArray) -> Tensor:
        return torch.from_numpy(np.stack([read_place(self.places[row], self.image) for row in rows]))

    def take(self, rows: IntArray) -> FileViews:
        return FileViews([self.places[row] for row in rows], self.image)

    @property
    def benefits_from_workers(self) -> bool:
        return True


class DecodedPlace(NamedTuple):
    """Views of a place, decoded for S specs.

    Attributes:
        images: S arrays (4, 3, H, W) uint8; a missing or broken view is all zeros.
        present: (4,) True for each view that was decoded.
        errors: Index of the heading -> error of its file.
    """

    images: list[ByteArray]
    present: npt.NDArray[np.bool_]
    errors: dict[int, DataError]


def decode_place(files: PlaceFiles, specs: Sequence[ImageSpec]) -> DecodedPlace:
    """Reads each file of a place once and decodes it for every spec; errors are returned, not raised."""
    images = [np.zeros((4, 3, spec.size, spec.size), dtype=np.uint8) for spec in specs]
    present = np.zeros(4, dtype=np.bool_)
    errors: dict[int, DataError] = {}

    for heading, name in enumerate(files.names):
        if name is None:
            continue
        path = files.path(heading)
        try:
            data = read_bytes(path)
            views = [spec.decode(data) for spec in specs]
        except DataError as error:
            errors[heading] = error
        except ValueError as error:
            errors[heading] = DataError.at(path, f"is not a complete image ({error})")
        else:
            present[heading] = True
            for image, view in zip(images, views, strict=True):
                image[heading] = view

    return DecodedPlace(images, present, errors)


def read_place(files: PlaceFiles, image: ImageSpec) -> ByteArray:
    """Decodes the four views of a place to (4, 3, H, W), zeros for a view without a file; raises DataError."""
    place = decode_place(files, [image])
    for error in place.errors.values():
        raise error
    return place.images[0]


def read_folder(
    folder: str,
    image: ImageSpec,
    *,
    mask: bool = False,
    broken: list[str] | None = None,
    base: str | None = None,
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.bool_]]:
    """Reads the views of a folder of `0.jpg`, `90.jpg`, `180.jpg` and `270.jpg` (or .jpeg, .png, .webp).

    With `mask`, one to three views suffice; a broken view then counts as missing if the list `broken` receives its
    error message, and is an error otherwise. Links must not leave `base`; None is the folder itself.

    Returns (4, 3, H, W) views, zeros for a missing view, and (4,) True for each view present.

    Raises DataError if a view is missing or broken, a heading has two files, or the folder cannot be read.
    """
    try:
        names, conflicts = list_names(folder, base)
    except OSError as error:
        raise DataError.at(folder, f"cannot be read ({error.strerror})") from error
    if conflicts:
        raise DataError.at(folder, "must hold one file for each heading", found=conflicts)

    missing = [f"{heading}.jpg" for heading, name in zip(HEADINGS, names, strict=True) if name is None]
    has_views = len(missing) < len(HEADINGS)
    if missing and not (mask and has_views):
        remedy = "With missing_views=mask (in Python mask=True) fewer views are enough." if has_views else ""
        raise DataError.at(folder, f"lacks {', '.join(missing)}", remedy=remedy)

    place = decode_place(PlaceFiles(folder, names), [image])
    errors = list(place.errors.values())
    if errors and (not mask or broken is None or not place.present.any()):
        raise errors[0]

    if broken is not None:
        broken += map(str, errors)
    return place.images[0], place.present


def choose_prefetch(specs: Sequence[ImageSpec]) -> int:
    """Returns the number of decoded places that may wait for their turn: some per core, within a memory limit."""
    place_bytes = sum(len(HEADINGS) * 3 * spec.size**2 for spec in specs)
    return max(2 * count_cores(), min(256, MAX_PREFETCH_BYTES // place_bytes))
