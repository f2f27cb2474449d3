"""Statistics of inspected images: state, size, digests, thumbnail and sums of pixels of each view."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from geoguesser.arrays import BoolArray, ByteArray, IntArray
from geoguesser.data.checks.findings import Finding

# States of a view.
OK, MISSING, BROKEN, PLACEHOLDER = range(4)

# Side of a thumbnail.
THUMBNAIL_PX = 8

# Record of one image. `mode` is an index of images.MODES, `digest` the XXH3 digest of the file (128 bits), and
# `hash` the perceptual hash (112 bits).
IMAGE_DTYPE = np.dtype(
    [
        ("state", "u1"),
        ("mode", "u1"),
        ("orientation", "u1"),
        ("digest", "<u8", 2),
        ("hash", "<u8", 2),
        ("width", "<i4"),
        ("height", "<i4"),
        ("bytes", "<i4"),
    ]
)


@dataclass
class InspectedPlace:
    """Result of inspecting one place for S specs.

    Attributes:
        images: S arrays (4, 3, size, size) uint8; a missing or broken view is all zeros.
        views: (4,) records of dtype `IMAGE_DTYPE`.
        thumbnails: S arrays (4, 3, 8, 8) uint8.
        sums: S arrays (4, 2, 3) int64, as in `ImageStats`.
        findings: Index of the heading and finding, for each defect or peculiarity of an image.
        num_unreadable: Number of files that the operating system failed to read; a later attempt may succeed.
    """

    images: list[ByteArray]
    views: npt.NDArray[Any]
    thumbnails: list[ByteArray]
    sums: list[IntArray]
    findings: list[tuple[int, Finding]]
    num_unreadable: int = 0


@dataclass
class ImageStats:
    """Statistics of the images of N places, for one spec.

    Attributes:
        thumbnails: (N, 4, 3, 8, 8) uint8 means of blocks; zeros for views without pixels.
        sums: (N, 4, 2, 3) int64 sums of the pixels of each view and of their squares, by channel.
    """

    views: npt.NDArray[Any]
    thumbnails: ByteArray
    sums: IntArray

    @classmethod
    def empty(cls, count: int, *, thumbnail: int = THUMBNAIL_PX) -> Self:
        """Makes statistics of places that are not inspected yet; `thumbnail=0` stores no thumbnails."""
        return cls(
            np.zeros((count, 4), dtype=IMAGE_DTYPE),
            np.zeros((count, 4, 3, thumbnail, thumbnail), dtype=np.uint8),
            np.zeros((count, 4, 2, 3), dtype=np.int64),
        )

    def __len__(self) -> int:
        return len(self.views)

    def take(self, rows: npt.NDArray[Any]) -> Self:
        """Returns the statistics of the given rows only, in their order."""
        return type(self)(*(getattr(self, field.name)[rows] for field in fields(self)))

    def put(self, row: int, place: InspectedPlace, index: int = 0) -> None:
        """Stores one place, with the sums and thumbnails of the spec with the given index."""
        self.views[row] = place.views
        self.thumbnails[row] = place.thumbnails[index]
        self.sums[row] = place.sums[index]

    def sum_used_views(self, mask: BoolArray) -> IntArray:
        """Returns (N, 2, 3) sums of the pixels and of their squares over the used views, (N, 4), of each place."""
        return np.sum(self.sums * mask[..., None, None], axis=1)


def compute_pixel_stats(sums: IntArray, mask: BoolArray, size: int) -> tuple[list[float], list[float]]:
    """Computes three means and three standard deviations of the pixels of all used views, for values from 0 to 1.

    Sums are (N, 2, 3), over the used views in the (N, 4) mask; they are exact, so that the order does not matter.
    """
    total, pixels = sums.sum(axis=0), int(mask.sum()) * size**2
    mean = total[0] / pixels / 255.0
    variance = np.maximum(total[1] / pixels / 255.0**2 - mean**2, 0.0)
    return mean.tolist(), np.sqrt(variance).tolist()
