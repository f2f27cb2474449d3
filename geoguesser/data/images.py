"""Decoding of images to square uint8 views, upright and in RGB. All uses resize images in the same way.

libjpeg-turbo decodes JPEG files at a reduced scale, and Pillow all other files.
"""

from __future__ import annotations

import io
import os
import stat
import warnings
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image

from geoguesser.arrays import ByteArray
from geoguesser.data.image_limits import (
    MAX_PIXELS,
    TooLargeError,
    check_file_size,
    check_image_file,
    check_pixels,
)
from geoguesser.errors import DataError, check_choice, check_int

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
MODES = ("RGB", "grey", "CMYK", "palette", "transparent")

# Formats that Pillow may read. Its other readers are disabled, because files of users may exploit their errors.
FORMATS = ("JPEG", "PNG", "WEBP")

# One of these is in each PNG or WebP that states an orientation, in EXIF or XMP.
METADATA_WORDS = (b"eXIf", b"Raw profile type exif", b"XML:com.adobe.xmp", b"EXIF", b"XMP ")

# Part of fingerprints and of names of shards. Increase it if a change of the code changes the pixels of a file.
DECODING_VERSION = 1

# Pixels of other formats than JPEG are converted to RGB in strips of about this number, which bounds the memory.
STRIP_PIXELS = 2**20

# Above this size EXIF counts as absent, because Pillow makes an object of each of its numbers.
MAX_EXIF_BYTES = 2**20

# Pillow warns of each tag of a damaged file, which could print megabytes.
warnings.filterwarnings("ignore", module=r"PIL\b")

# Weights of red, green and blue in luma.
LUMA_WEIGHTS = np.array((0.299, 0.587, 0.114), dtype=np.float32)  # ITU-R BT.601

# Views are read in parallel, so that OpenCV's own threads would only compete with these.
cv2.setNumThreads(1)


def describe_decoder() -> str:
    """Returns the version of the decoding rules and of each library that decodes, for fingerprints."""
    libraries = ("simplejpeg", "opencv-python-headless", "pillow")
    return ", ".join([f"rules {DECODING_VERSION}", *(f"{name} {version(name)}" for name in libraries)])


@dataclass(frozen=True)
class Header:
    """Properties of an image that are known before it is decoded.

    Attributes:
        width: Stored width in pixels, before the EXIF orientation is applied.
        height: Stored height in pixels.
        mode: Colour type of the stored image, one of `MODES`; others than RGB are reported as `unusual_mode`.
        orientation: EXIF orientation, from 1 (upright) to 8.
        uses_turbojpeg: True if libjpeg-turbo decodes the image; False if Pillow does.
    """

    width: int
    height: int
    mode: str
    orientation: int
    uses_turbojpeg: bool


def read_header(data: bytes) -> Header:
    """Reads the header of an image without decoding it.

    Raises:
        TooLargeError: The image exceeds a limit of `image_limits`.
        ValueError: It is not JPEG, PNG or WebP.
    """
    if not data:
        raise ValueError("the file is empty")

    if data.startswith(b"\xff\xd8"):
        check_image_file(data)
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        mode = {"Gray": "grey", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colours, "RGB")
        check_pixels(width, height, mode)
        orientation = _read_orientation(data) if _has_exif(data) else 1
        # libjpeg-turbo cannot convert CMYK to RGB.
        return Header(width, height, mode, orientation, uses_turbojpeg=mode != "CMYK")

    image = open_image(data)
    # Pillow decodes a PNG to find EXIF after the pixels, which is only worth it if there can be any.
    orientation = _read_orientation(data) if any(word in data for word in METADATA_WORDS) else 1
    return Header(*image.size, _get_mode(image), orientation, uses_turbojpeg=False)


def decode_rgb(data: bytes, header: Header, min_px: int) -> ByteArray:
    """Decodes an image to (H, W, 3) RGB and turns it upright; raises ValueError if it is broken.

    A JPEG may be decoded at a reduced scale, but with at least `min_px` in height and width.
    """
    if header.uses_turbojpeg:
        image: ByteArray = simplejpeg.decode_jpeg(data, "RGB", min_height=min_px, min_width=min_px)
    else:
        try:
            image = _convert_to_rgb(open_image(data))
        except (Exception, MemoryError) as error:
            # For damaged files Pillow raises errors of many types, such as SyntaxError and AssertionError.
            raise ValueError(str(error) or type(error).__name__) from error

    return _turn_upright(image, header.orientation)


def decode_shrunk(data: bytes, max_px: int) -> ByteArray:
    """Decodes an image to (H, W, 3) RGB whose longer side has at most `max_px` pixels; ValueError if broken."""
    image = decode_rgb(data, read_header(data), max_px)
    scale = max_px / max(image.shape[:2])
    if scale >= 1:
        return image
    shape = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, shape, interpolation=cv2.INTER_AREA), dtype=np.uint8)


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """Size of views, how an image is fitted into it, and how the network normalises pixels.

    Attributes:
        size: Height and width of a view in pixels, from 16 to 4096.
        fit: `crop` takes the middle square; `squash` takes the complete image and changes its aspect ratio.
        normalise: Source of the mean and standard deviation with which the network normalises pixels: the
            `backbone`, or the training views of the `dataset`. The pixels of a view do not depend on it.
    """

    size: int = 112
    fit: str = "crop"
    normalise: str = "backbone"

    def __post_init__(self) -> None:
        check_int("image.size", self.size, low=16, high=4096)
        check_choice("image.fit", self.fit, ("crop", "squash"))
        check_choice("image.normalise", self.normalise, ("backbone", "dataset"))

    @property
    def name(self) -> str:
        """Name of the preprocessing, such as `px112-crop`."""
        return f"px{self.size}-{self.fit}"

    def read(self, path: str | Path) -> ByteArray:
        """Reads an image file to (3, size, size) RGB; raises DataError if it is not a complete image."""
        data = read_bytes(path)
        try:
            return self.decode(data)
        except ValueError as error:
            raise DataError.at(str(path), f"is not a complete image ({error})") from error

    def decode(self, data: bytes) -> ByteArray:
        """Decodes an image file's content to (3, size, size) RGB; raises ValueError if it is broken."""
        return self.resize_chw(decode_rgb(data, read_header(data), self.size))

    def resize_chw(self, image: npt.NDArray[Any]) -> ByteArray:
        """Resizes (H, W, 3) RGB to (3, size, size) RGB, contiguous."""
        return to_channels_first(self.resize_hwc(image))

    def resize_hwc(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Resizes (H, W, 3) RGB to (size, size, 3) RGB; the result may share memory with the input."""
        height, width = image.shape[:2]
        if self.fit == "crop":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            image = image[top : top + side, left : left + side]

        if image.shape[:2] != (self.size, self.size):
            # Averaging over areas avoids aliasing where an image shrinks, but shows blocks where it grows.
            method = cv2.INTER_AREA if min(image.shape[:2]) >= self.size else cv2.INTER_CUBIC
            image = cv2.resize(image, (self.size, self.size), interpolation=method)
        return image


def to_channels_first(image: npt.NDArray[Any], out: ByteArray | None = None) -> ByteArray:
    """Converts (H, W, 3) to (3, H, W), contiguous; writes to `out` if it is given."""
    out = np.empty((3, *image.shape[:2]), dtype=np.uint8) if out is None else out

    # Three times as fast as a transposing copy by NumPy.
    cv2.split(np.ascontiguousarray(image), list(out))
    return out


def read_bytes(path: str | Path) -> bytes:
    """Reads a file; raises DataError if it cannot be read, is too large or is no regular file, such as a pipe."""
    try:
        status = os.stat(path)
        # Reading a pipe would never end, and reading a folder is an error below.
        if not (stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode)):
            raise DataError.at(str(path), "must be a regular file")
        check_file_size(status.st_size)
        return Path(path).read_bytes()
    except TooLargeError as error:
        raise DataError.at(str(path), f"is too large ({error})") from error
    except OSError as error:
        raise DataError.at(str(path), f"cannot be read ({error.strerror})") from error


def open_image(data: bytes) -> Image.Image:
    """Opens an image with Pillow, without decoding it, after checks of its limits.

    Raises:
        TooLargeError: The image exceeds a limit of `image_limits`.
        ValueError: It is not JPEG, PNG or WebP, or its header is damaged.
    """
    check_image_file(data)
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        # Pillow refuses images of twice its limit before their size can be read.
        raise TooLargeError(f"more than twice the limit of {MAX_PIXELS:,} pixels") from error
    except Exception as error:
        # For damaged files Pillow raises errors of many types.
        raise ValueError("no JPEG, PNG or WebP") from error
    _check_pixels(image)
    return image


def _check_pixels(image: Image.Image) -> None:
    check_pixels(*image.size, "CMYK" if image.mode == "CMYK" else image.format)


def _get_mode(image: Image.Image) -> str:
    try:
        if image.has_transparency_data:
            return "transparent"
    except AssertionError as error:
        raise ValueError("a palette is missing") from error
    if image.mode.startswith(("1", "L", "I", "F")):
        return "grey"
    return {"P": "palette", "CMYK": "CMYK"}.get(image.mode, "RGB")


def _has_exif(data: bytes) -> bool:
    """Returns whether an EXIF segment is among the first eight of a JPEG; much faster than Pillow's parser."""
    # The EXIF standard puts it first; some programs write a JFIF segment or their own before it.
    start = 2
    for _ in range(8):
        # 0xDA starts the compressed image.
        if data[start : start + 1] != b"\xff" or data[start + 1 : start + 2] == b"\xda":
            return False
        if data[start + 1] == 0xE1 and data[start + 4 : start + 8] == b"Exif":
            return True
        start += 2 + int.from_bytes(data[start + 2 : start + 4], "big")
    return False


def read_exif(image: Image.Image) -> Image.Exif:
    """Returns the EXIF of an image that Pillow opened; empty if there is none or more than `MAX_EXIF_BYTES`."""
    if image.format == "PNG" and "exif" not in image.info:
        image.load()
    return image.getexif() if len(image.info.get("exif") or b"") <= MAX_EXIF_BYTES else Image.Exif()


def _read_orientation(data: bytes) -> int:
    """Returns the EXIF orientation; 1 if it is absent, out of range or unreadable."""
    try:
        orientation = read_exif(open_image(data)).get(ExifTags.Base.Orientation, 1)
    except Exception:
        # Damaged EXIF makes Pillow raise errors of many types, and the image can still be complete.
        return 1
    return orientation if orientation in range(1, 9) else 1


def to_upright_rgb(image: Image.Image) -> ByteArray:
    """Converts an image that Pillow opened to (H, W, 3) RGB, upright by its EXIF orientation.

    Raises:
        TooLargeError: The image has too many pixels.
    """
    _check_pixels(image)
    orientation = image.getexif().get(ExifTags.Base.Orientation, 1)
    return _turn_upright(_convert_to_rgb(image), orientation)


def _convert_to_rgb(image: Image.Image) -> ByteArray:
    """Converts any mode to (H, W, 3) RGB: 16-bit grey is scaled to 8 bits, and transparency is put on white."""
    image.load()
    width, height = image.size
    pixels = np.empty((height, width, 3), dtype=np.uint8)

    # A copy of the complete image in each intermediate form would take several times the memory.
    rows = max(1, STRIP_PIXELS // width)
    for top in range(0, height, rows):
        bottom = min(top + rows, height)
        pixels[top:bottom] = _convert_strip(image.crop((0, top, width, bottom)))
    return pixels


def _convert_strip(image: Image.Image) -> npt.NDArray[Any]:
    # Pillow opens 16-bit PNG files as mode I or I;16.
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255)
        return grey[..., None]

    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))


def _turn_upright(image: ByteArray, orientation: int) -> ByteArray:
    """Undoes an EXIF orientation (tag 0x0112): 2, 4, 5 and 7 are mirrored; 3, 6 and 8 are rotated."""
    undo = {
        2: lambda stored: stored[:, ::-1],
        3: lambda stored: stored[::-1, ::-1],
        4: lambda stored: stored[::-1],
        5: lambda stored: stored.transpose(1, 0, 2),
        6: lambda stored: stored.transpose(1, 0, 2)[:, ::-1],
        7: lambda stored: stored[::-1, ::-1].transpose(1, 0, 2),
        8: lambda stored: stored.transpose(1, 0, 2)[::-1],
    }
    return np.ascontiguousarray(undo[orientation](image)) if orientation in undo else image
