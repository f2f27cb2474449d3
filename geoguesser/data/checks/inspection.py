"""Examining: one reading of each image gives its pixels, its facts and what is wrong with it.

Training straight from files and packing a store both go through here, so both find the same. Nothing here
decides what a finding means: that is data/soundness.py.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import cv2
import numpy as np
import numpy.typing as npt
import xxhash

from geoguesser.arrays import ByteArray
from geoguesser.data.checks.findings import Finding
from geoguesser.data.images import MODES, Header, ImageSpec, decode_rgb, read_bytes, read_header, to_planes
from geoguesser.data.place_files import PlaceFiles
from geoguesser.errors import DataError
from geoguesser.system.cpu import count_cores
from geoguesser.system.parallel import map_in_order

RULES = 1  # raise it whenever the same file gives other facts or findings
THUMBNAIL = 8
OK, MISSING, BROKEN, PLACEHOLDER = range(4)  # states of a view
ODD_ASPECT = 2.0
TINY_PX = 16  # a smaller image shows nothing of a place
FLAT_LEVELS, FLAT_SHARE = 3, 0.95  # a placeholder: nearly all of it within so many levels of its median
AHEAD_BYTES = 2**26  # of pixels that wait for their turn, so that memory stays flat
LUMA = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R BT.601

VIEW = np.dtype(
    [
        ("state", "u1"),
        ("mode", "u1"),  # a number of MODES
        ("orientation", "u1"),
        ("digest", "<u8", 2),  # of the file's bytes: XXH3, 128 bits
        ("hash", "<u8", 2),  # of the picture: gradients of its thumbnail's luma, 112 bits
        ("width", "<i4"),
        ("height", "<i4"),
        ("bytes", "<i4"),
    ]
)


@dataclass
class ImageStats:
    """What examining N places tells.

    Attributes:
        views: (N, 4) of dtype VIEW.
        thumbnails: (N, 4, 3, 8, 8) uint8 means of blocks; zeros where there are no pixels.
        sums: (N, 4, 2, 3) int64 sums of each view's values and of their squares, by channel.
    """

    views: npt.NDArray[Any]
    thumbnails: ByteArray
    sums: npt.NDArray[np.int64]

    @classmethod
    def empty(cls, count: int, *, thumbnail: int = THUMBNAIL) -> Self:
        """Facts of so many places of which nothing is known yet; `thumbnail=0` keeps no thumbnails."""
        return cls(
            np.zeros((count, 4), dtype=VIEW),
            np.zeros((count, 4, 3, thumbnail, thumbnail), dtype=np.uint8),
            np.zeros((count, 4, 2, 3), dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.views)

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """The facts of these rows alone, in their order."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, row: int, examined: InspectedPlace, number: int = 0) -> None:
        """Records one place, with the sums and thumbnails of spec number `number`."""
        self.views[row] = examined.views
        self.thumbnails[row] = examined.thumbnails[number]
        self.sums[row] = examined.sums[number]


@dataclass(frozen=True)
class InspectedPlace:
    """One place, examined for S specs.

    Attributes:
        images: S arrays (4, 3, size, size); a view that is missing or broken is all zeros.
        views: (4,) of dtype VIEW.
        thumbnails: S arrays (4, 3, 8, 8).
        sums: S arrays (4, 2, 3), as in `ImageStats`.
        found: What is wrong with its images or remarkable, each with the number of its heading.
        unreadable: How many files the operating system would not give; another time it may.
    """

    images: list[ByteArray]
    views: npt.NDArray[Any]
    thumbnails: list[ByteArray]
    sums: list[npt.NDArray[np.int64]]
    found: list[tuple[int, Finding]]
    unreadable: int


def inspect_place(files: PlaceFiles, specs: Sequence[ImageSpec]) -> InspectedPlace:
    """Reads a place's files once, and decodes each for every spec at its own scale.

    So a view has the same pixels whichever other sizes are made in the same pass.
    """
    images = [np.zeros((4, 3, spec.size, spec.size), dtype=np.uint8) for spec in specs]
    thumbnails = [np.zeros((4, 3, THUMBNAIL, THUMBNAIL), dtype=np.uint8) for _ in specs]
    sums = [np.zeros((4, 2, 3), dtype=np.int64) for _ in specs]
    views = np.zeros(4, dtype=VIEW)
    found: list[tuple[int, Finding]] = []
    unreadable = 0
    for heading, name in enumerate(files.names):
        if name is None:
            views[heading]["state"] = MISSING
            continue
        path = os.path.join(files.folder, name)
        try:
            fitted, first, kinds = _read(path, specs, views[heading : heading + 1])
        except DataError as error:
            views[heading]["state"] = BROKEN
            unreadable += isinstance(error.__cause__, OSError)
            found.append((heading, Finding("broken_image", path, str(error)[len(path) + 1 :].rstrip("."))))
            continue
        found += [(heading, Finding(kind, path, reason)) for kind, reason in kinds]
        for number, image in enumerate(fitted):
            to_planes(image, images[number][heading])
            thumbnails[number][heading] = (_thumbnail(image) if number else first).transpose(2, 0, 1)
            sums[number][heading] = _sums(image)
    views["hash"] = compute_picture_hash(thumbnails[0])
    return InspectedPlace(images, views, thumbnails, sums, found, unreadable)


def _read(
    path: str, specs: Sequence[ImageSpec], view: npt.NDArray[Any]
) -> tuple[list[npt.NDArray[Any]], npt.NDArray[Any], list[tuple[str, str]]]:
    """One file: (size, size, 3) for each spec, the first one's thumbnail, kind and reason of what is remarkable.

    Fills `view`.
    """
    data = read_bytes(path)
    try:
        header = read_header(data)
        fitted = [spec.fitted(decode_rgb(data, header, spec.size)) for spec in specs]
    except ValueError as error:
        raise DataError.at(path, f"is no whole image ({error})") from error
    digest = np.frombuffer(xxhash.xxh3_128_digest(data), dtype="<u8")
    mode = MODES.index(header.mode)
    view[0] = (OK, mode, header.orientation, digest, (0, 0), header.width, header.height, len(data))
    thumbnail = _thumbnail(fitted[0])
    kinds: list[tuple[str, str]] = []
    short, long = sorted((header.width, header.height))
    size = f"{header.width} x {header.height} pixels"
    if reason := is_placeholder(header, fitted[0], thumbnail):
        kinds.append(("placeholder_image", reason))
        view["state"] = PLACEHOLDER
    if mode:
        kinds.append(("unusual_mode", f"is {header.mode}, turned into RGB"))
    if header.orientation != 1:
        kinds.append(("turned_image", f"has EXIF orientation {header.orientation}, turned upright"))
    if long >= ODD_ASPECT * short:
        kinds.append(("odd_aspect", f"is {size}: image.fit=crop takes its ends off, squash squeezes it"))
    return fitted, thumbnail, kinds


def is_placeholder(header: Header, image: npt.NDArray[Any], thumbnail: npt.NDArray[Any] | None = None) -> str:
    """Why an image stands for one that is not there, as the rest of a sentence; empty where it shows something.

    Args:
        header: What it says of itself.
        image: (size, size, 3), fitted.
        thumbnail: (8, 8, 3) means of blocks, where they are known.
    """
    if min(header.width, header.height) < TINY_PX:
        return f"is a tiny image of {header.width} x {header.height} pixels"
    if _is_flat(image, _thumbnail(image) if thumbnail is None else thumbnail):
        return f"shows nothing: {FLAT_SHARE:.0%} of it is of one brightness"
    return ""


def _thumbnail(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return cv2.resize(image, (THUMBNAIL, THUMBNAIL), interpolation=cv2.INTER_AREA)


def _is_flat(image: npt.NDArray[Any], thumbnail: npt.NDArray[Any]) -> bool:
    coarse = thumbnail @ LUMA
    if coarse.max() - coarse.min() > 40:  # nearly every photograph ends here, and no line of text on grey
        return False
    luma = image @ LUMA
    return bool(np.mean(np.abs(luma - np.median(luma)) <= FLAT_LEVELS) >= FLAT_SHARE)


def _sums(image: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
    """(2, 3) exact sums of values and squares: OpenCV's means and deviations in float64, undone and rounded."""
    count = image.shape[0] * image.shape[1]
    mean, deviation = (part.ravel() for part in cv2.meanStdDev(np.ascontiguousarray(image)))
    return np.rint(np.stack((mean * count, (deviation**2 + mean**2) * count))).astype(np.int64)


def compute_picture_hash(thumbnails: ByteArray) -> npt.NDArray[np.uint64]:
    """A perceptual hash: the signs of the 56 horizontal and 56 vertical steps between luma blocks.

    Measured on 160 street views: coded anew or resized, at most 5 of its 112 bits differ; between
    different places the third most alike of four views differs in 26 and more.

    Args:
        thumbnails: (..., 3, 8, 8).

    Returns:
        (..., 2) uint64: the horizontal bits, the vertical bits.

    Source: the gradient hash (dHash), N. Krawetz, "Kind of Like That" (2013), here in both directions.
    """
    luma = np.tensordot(thumbnails.astype(np.float32), LUMA, axes=(-3, 0))
    across = luma[..., :, 1:] > luma[..., :, :-1]
    down = luma[..., 1:, :] > luma[..., :-1, :]
    bits = np.stack([part.reshape(*luma.shape[:-2], 56) for part in (across, down)], axis=-2)
    padded = np.concatenate((bits, np.zeros((*bits.shape[:-1], 8), dtype=bool)), axis=-1)
    return np.packbits(padded, axis=-1).view("<u8")[..., 0]


def compute_hash_distance(a: npt.NDArray[np.uint64], b: npt.NDArray[np.uint64]) -> npt.NDArray[np.int64]:
    """(..., 2) hashes -> (...) how many of their 112 bits differ."""
    return np.bitwise_count(a ^ b).sum(axis=-1).astype(np.int64)


def inspect_in_order(places: Sequence[PlaceFiles], specs: Sequence[ImageSpec]) -> Iterator[InspectedPlace]:
    """Examines places on all cores and yields them in their order; a bounded number is in flight.

    Threads serve, for reading, decoding, resizing and hashing all release Python's lock.
    """
    yield from map_in_order(
        lambda files: inspect_place(files, specs),
        places,
        threads=count_cores(),
        ahead=choose_prefetch(specs),
        name="examine",
    )


def choose_prefetch(specs: Sequence[ImageSpec]) -> int:
    """How many places may wait with their pixels: some for each core, within a fixed amount of memory."""
    size = sum(12 * spec.size**2 for spec in specs)
    return max(2 * count_cores(), min(256, AHEAD_BYTES // size))
