"""Inspection of images: one reading of each file gives its pixels, its statistics and its findings."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import xxhash

from geoguesser.arrays import IntArray
from geoguesser.data.checks.findings import Finding
from geoguesser.data.checks.image_stats import (
    BROKEN,
    IMAGE_DTYPE,
    MISSING,
    OK,
    PLACEHOLDER,
    THUMBNAIL_PX,
    InspectedPlace,
)
from geoguesser.data.checks.picture_hash import compute_picture_hash
from geoguesser.data.images import (
    LUMA_WEIGHTS,
    MODES,
    Header,
    ImageSpec,
    decode_rgb,
    read_bytes,
    read_header,
    to_channels_first,
)
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.views import choose_prefetch
from geoguesser.errors import DataError
from geoguesser.system.cpu import count_cores
from geoguesser.system.parallel import map_in_order

# Part of the cache key of findings: raise it whenever the same file gives other statistics or findings.
INSPECTION_VERSION = 1

# Longer over shorter side of an image with an unusual aspect ratio.
MIN_ODD_ASPECT = 2.0

# Shorter side below which an image shows nothing of a place.
MIN_IMAGE_PX = 16

# A placeholder has at least this share of its pixels within this number of levels of its median.
MIN_FLAT_SHARE, MAX_FLAT_LEVELS = 0.95, 3

# Range of luma between the blocks of a thumbnail above which an image cannot be flat; text on grey stays below.
MAX_FLAT_RANGE = 40


def inspect_in_order(places: Sequence[PlaceFiles], specs: Sequence[ImageSpec]) -> Iterator[InspectedPlace]:
    """Inspects places on all cores and yields them in their order; the number in flight is bounded.

    Threads are sufficient, because reading, decoding, resizing and hashing release Python's lock.
    """
    yield from map_in_order(
        lambda files: inspect_place(files, specs),
        places,
        threads=count_cores(),
        ahead=choose_prefetch(specs),
        name="examine",
    )


def inspect_place(files: PlaceFiles, specs: Sequence[ImageSpec]) -> InspectedPlace:
    """Reads the files of a place once and decodes each for every spec.

    Each spec is decoded at a scale of its own, so that its pixels do not depend on the other specs.
    """
    place = InspectedPlace(
        images=[np.zeros((4, 3, spec.size, spec.size), dtype=np.uint8) for spec in specs],
        views=np.zeros(4, dtype=IMAGE_DTYPE),
        thumbnails=[np.zeros((4, 3, THUMBNAIL_PX, THUMBNAIL_PX), dtype=np.uint8) for _ in specs],
        sums=[np.zeros((4, 2, 3), dtype=np.int64) for _ in specs],
        findings=[],
    )
    for heading, name in enumerate(files.names):
        if name is None:
            place.views[heading]["state"] = MISSING
            continue

        path = os.path.join(files.folder, name)
        try:
            images, kinds = _inspect_file(path, specs, place.views[heading : heading + 1])
        except DataError as error:
            place.views[heading]["state"] = BROKEN
            place.num_unreadable += isinstance(error.__cause__, OSError)
            reason = str(error)[len(path) + 1 :].rstrip(".")
            place.findings.append((heading, Finding("broken_image", path, reason)))
            continue

        place.findings.extend((heading, Finding(kind, path, reason)) for kind, reason in kinds)
        for index, image in enumerate(images):
            to_channels_first(image, place.images[index][heading])
            place.thumbnails[index][heading] = _make_thumbnail(image).transpose(2, 0, 1)
            place.sums[index][heading] = _sum_pixels(image)

    place.views["hash"] = compute_picture_hash(place.thumbnails[0])
    return place


def _inspect_file(
    path: str, specs: Sequence[ImageSpec], view: npt.NDArray[Any]
) -> tuple[list[npt.NDArray[Any]], list[tuple[str, str]]]:
    """Fills the (1,) record of a file; returns S arrays (size, size, 3), and kind and reason of peculiarities."""
    data = read_bytes(path)
    try:
        header = read_header(data)
        images = [spec.resize_hwc(decode_rgb(data, header, spec.size)) for spec in specs]
    except ValueError as error:
        raise DataError.at(path, f"is not a complete image ({error})") from error

    digest = np.frombuffer(xxhash.xxh3_128_digest(data), dtype="<u8")
    mode = MODES.index(header.mode)
    view[0] = (OK, mode, header.orientation, digest, (0, 0), header.width, header.height, len(data))

    kinds: list[tuple[str, str]] = []
    if reason := describe_placeholder(header, images[0]):
        kinds.append(("placeholder_image", reason))
        view["state"] = PLACEHOLDER
    if mode:
        kinds.append(("unusual_mode", f"is {header.mode}, turned into RGB"))
    if header.orientation != 1:
        kinds.append(("turned_image", f"has EXIF orientation {header.orientation}, turned upright"))
    short, long = sorted((header.width, header.height))
    if long >= MIN_ODD_ASPECT * short:
        size = f"{header.width} x {header.height} pixels"
        kinds.append(("odd_aspect", f"is {size}: image.fit=crop cuts its ends off, squash compresses it"))
    return images, kinds


def describe_placeholder(header: Header, image: npt.NDArray[Any]) -> str:
    """Returns why an image, fitted to (size, size, 3), is a placeholder, as a predicate; empty if it is none."""
    if min(header.width, header.height) < MIN_IMAGE_PX:
        return f"is a tiny image of {header.width} x {header.height} pixels"
    if _is_flat(image):
        return f"shows nothing: {MIN_FLAT_SHARE:.0%} of it is of one brightness"
    return ""


def _is_flat(image: npt.NDArray[Any]) -> bool:
    # Nearly every photograph differs from block to block, which saves the computation over all pixels.
    blocks = _make_thumbnail(image) @ LUMA_WEIGHTS
    if blocks.max() - blocks.min() > MAX_FLAT_RANGE:
        return False

    luma = image @ LUMA_WEIGHTS
    return bool(np.mean(np.abs(luma - np.median(luma)) <= MAX_FLAT_LEVELS) >= MIN_FLAT_SHARE)


def _make_thumbnail(image: npt.NDArray[Any]) -> npt.NDArray[Any]:
    return cv2.resize(image, (THUMBNAIL_PX, THUMBNAIL_PX), interpolation=cv2.INTER_AREA)


def _sum_pixels(image: npt.NDArray[Any]) -> IntArray:
    """Returns (2, 3) exact sums of the pixels and of their squares, by channel."""
    count = image.shape[0] * image.shape[1]

    # From float64 means and deviations of n pixels, n * mean and n * (deviation^2 + mean^2) are these sums, up to
    # rounding errors far below 1/2.
    mean, deviation = (part.ravel() for part in cv2.meanStdDev(np.ascontiguousarray(image)))
    return np.rint(np.stack((mean * count, (deviation**2 + mean**2) * count))).astype(np.int64)
