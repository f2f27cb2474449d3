"""Images: JPEG bytes -> square uint8 views, by libjpeg-turbo at reduced scale and one area resize.

One resize for training, testing and prediction alike; what depends on the backbone (mean, std) is not
done here.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg

from geoguesser.errors import DataError, check_choice, check_int

ByteArray = npt.NDArray[np.uint8]

cv2.setNumThreads(1)  # views are read in parallel already; OpenCV's own threads would only fight


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How a view is brought to its size.

    Attributes:
        size: Height and width of the result in pixels.
        fit: `crop` (the middle square) or `squash` (all of it, aspect lost).
    """

    size: int = 112
    fit: str = "crop"

    def __post_init__(self) -> None:
        check_int("image.size", self.size, low=16, high=4096)
        check_choice("image.fit", self.fit, ("crop", "squash"))

    def read(self, path: str | Path) -> ByteArray:
        """Reads a JPEG file.

        Returns:
            (3, size, size) RGB.

        Raises:
            DataError: It cannot be read or is no whole JPEG; the message names the file.
        """
        try:
            data = Path(path).read_bytes()
        except OSError as error:
            raise DataError.at(str(path), f"cannot be read ({error.strerror})") from error
        try:
            return self.decode(data)
        except ValueError as error:
            raise DataError.at(str(path), f"is no whole JPEG image ({error})") from error

    def decode(self, data: bytes) -> ByteArray:
        """JPEG bytes -> (3, size, size) RGB.

        Raises:
            ValueError: Broken or truncated.
        """
        if not data:
            raise ValueError("the file is empty")
        image = simplejpeg.decode_jpeg(data, "RGB", min_height=self.size, min_width=self.size)
        return self.resize(image)

    def resize(self, image: npt.NDArray[Any]) -> ByteArray:
        """(H, W, 3) RGB -> (3, size, size) RGB, contiguous."""
        height, width = image.shape[:2]
        if self.fit == "crop":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            image = image[top : top + side, left : left + side]
        if image.shape[:2] != (self.size, self.size):
            shrinks = min(image.shape[:2]) >= self.size
            method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            image = cv2.resize(image, (self.size, self.size), interpolation=method)
        return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.uint8)
