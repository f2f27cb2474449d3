"""Images: bytes -> square uint8 views. JPEG by libjpeg-turbo at reduced scale, what it cannot read by Pillow.

One resize for training, testing and prediction alike; what depends on the backbone (mean, std) is not
done here. Every image comes out upright and in RGB, whatever its mode and EXIF orientation.
"""

from __future__ import annotations

import io
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import simplejpeg
from PIL import ExifTags, Image, UnidentifiedImageError

from geoguesser.errors import DataError, check_choice, check_int

ByteArray = npt.NDArray[np.uint8]

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp")
FORMATS = ("JPEG", "PNG", "WEBP")  # of Pillow's many readers
RULES = 1  # raise it whenever the same bytes give other pixels
MAX_PIXELS = 178_956_970  # Pillow's own bound for what is no decompression bomb
MODES = ("RGB", "grey", "CMYK", "palette", "transparent")

cv2.setNumThreads(1)  # views are read in parallel already; OpenCV's own threads would only fight


def choose_decoder() -> str:
    """What turned bytes into pixels, for fingerprints: the rules here and the versions of the libraries."""
    libraries = ("simplejpeg", "opencv-python-headless", "pillow")
    return ", ".join([f"rules {RULES}", *(f"{name} {version(name)}" for name in libraries)])


class TooLargeError(ValueError):
    """An image has more pixels than are read."""


@dataclass(frozen=True)
class Header:
    """What an image says of itself.

    Attributes:
        width: In pixels, as stored.
        height: In pixels, as stored.
        mode: One of `MODES`.
        orientation: By EXIF, from 1 (upright) to 8.
        jpeg: Whether libjpeg-turbo reads it; else Pillow does.
    """

    width: int
    height: int
    mode: str
    orientation: int
    jpeg: bool


def read_header(data: bytes) -> Header:
    """Reads what an image says of itself, without decoding it.

    Raises:
        TooLargeError: It has more than `MAX_PIXELS`: a decompression bomb.
        ValueError: It is no image.
    """
    if not data:
        raise ValueError("the file is empty")
    if data.startswith(b"\xff\xd8"):
        height, width, colours, _ = simplejpeg.decode_jpeg_header(data)
        mode = {"Gray": "grey", "CMYK": "CMYK", "YCCK": "CMYK"}.get(colours, "RGB")
        header = Header(width, height, mode, _orientation(data) if _has_exif(data) else 1, mode != "CMYK")
    else:
        try:
            image = _open(data)
        except (OSError, SyntaxError) as error:  # Pillow's PNG reader raises SyntaxError
            raise ValueError("no JPEG, PNG or WebP") from error
        header = Header(*image.size, _mode(image), _orientation(data), False)
    if header.width * header.height > MAX_PIXELS:
        size = f"{header.width} x {header.height} pixels"
        raise TooLargeError(f"{size} are more than the {MAX_PIXELS:,} that are read")
    return header


def decode_rgb(data: bytes, header: Header, least: int) -> ByteArray:
    """Decodes an image upright.

    Args:
        data: Its bytes.
        header: What `read_header` said of them.
        least: Height and width that must remain where a JPEG is decoded at reduced scale.

    Returns:
        (H, W, 3) RGB.

    Raises:
        ValueError: Broken or truncated.
    """
    if header.jpeg:
        image: ByteArray = simplejpeg.decode_jpeg(data, "RGB", min_height=least, min_width=least)
    else:
        try:
            image = _by_pillow(data)
        except (OSError, SyntaxError) as error:
            raise ValueError(str(error) or type(error).__name__) from error
    return image if header.orientation == 1 else _upright(image, header.orientation)


@dataclass(frozen=True, kw_only=True)
class ImageSpec:
    """How a view is brought to its size.

    Attributes:
        size: Height and width of the result in pixels.
        fit: `crop` (the middle square) or `squash` (all of it, aspect lost).
        normalise: Whose mean and std the network takes from the pixels: the `backbone`'s own, or those of
            the `dataset` (its training views). It does not touch the pixels here.
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
        """What tells one preprocessing from another: `px112-crop`."""
        return f"px{self.size}-{self.fit}"

    def read(self, path: str | Path) -> ByteArray:
        """Reads an image file.

        Returns:
            (3, size, size) RGB.

        Raises:
            DataError: It cannot be read or is no whole image; the message names the file.
        """
        data = read_bytes(path)
        try:
            return self.decode(data)
        except ValueError as error:
            raise DataError.at(str(path), f"is no whole image ({error})") from error

    def decode(self, data: bytes) -> ByteArray:
        """The bytes of an image -> (3, size, size) RGB.

        Raises:
            ValueError: Broken or truncated.
        """
        return self.resize(decode_rgb(data, read_header(data), self.size))

    def resize(self, image: npt.NDArray[Any]) -> ByteArray:
        """(H, W, 3) RGB -> (3, size, size) RGB, contiguous."""
        return to_planes(self.fitted(image))

    def fitted(self, image: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """(H, W, 3) RGB -> (size, size, 3) RGB; it may be a view of the image given."""
        height, width = image.shape[:2]
        if self.fit == "crop":
            side = min(height, width)
            top, left = (height - side) // 2, (width - side) // 2
            image = image[top : top + side, left : left + side]
        if image.shape[:2] != (self.size, self.size):
            shrinks = min(image.shape[:2]) >= self.size
            method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
            image = cv2.resize(image, (self.size, self.size), interpolation=method)
        return image


def to_planes(image: npt.NDArray[Any], out: ByteArray | None = None) -> ByteArray:
    """(H, W, 3) -> (3, H, W), contiguous; into `out` where it is given."""
    out = np.empty((3, *image.shape[:2]), dtype=np.uint8) if out is None else out
    cv2.split(np.ascontiguousarray(image), list(out))  # three times as quick as NumPy's transposing copy
    return out


def read_bytes(path: str | Path) -> bytes:
    """The bytes of a file.

    Raises:
        DataError: It cannot be read; the message names it.
    """
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise DataError.at(str(path), f"cannot be read ({error.strerror})") from error


def _open(data: bytes) -> Image.Image:
    try:
        return Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError as error:
        raise ValueError("no JPEG, PNG or WebP") from error
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:  # far beyond, it opens none
        raise TooLargeError(f"far more pixels than the {MAX_PIXELS:,} that are read") from error


def _mode(image: Image.Image) -> str:
    if image.has_transparency_data:
        return "transparent"
    if image.mode.startswith(("1", "L", "I", "F")):
        return "grey"
    return {"P": "palette", "CMYK": "CMYK"}.get(image.mode, "RGB")


def _has_exif(data: bytes) -> bool:
    """Whether one of a JPEG's first segments is EXIF; Pillow, which parses it, takes far longer to say no."""
    at = 2
    for _ in range(8):
        if data[at : at + 1] != b"\xff" or data[at + 1 : at + 2] == b"\xda":  # the image itself begins
            return False
        if data[at + 1] == 0xE1 and data[at + 4 : at + 8] == b"Exif":
            return True
        at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _orientation(data: bytes) -> int:
    """The EXIF orientation, 1 where there is none or none that makes sense."""
    try:
        found = Image.open(io.BytesIO(data), formats=FORMATS).getexif().get(ExifTags.Base.Orientation, 1)
    except Exception:  # Pillow raises many things over damaged EXIF; the picture may be whole all the same
        return 1
    return found if found in range(1, 9) else 1


def open_rgb(image: Image.Image) -> ByteArray:
    """A picture that Pillow opened -> (H, W, 3) RGB, upright by its EXIF orientation."""
    found = image.getexif().get(ExifTags.Base.Orientation, 1)
    rgb = _rgb(image)
    return _upright(rgb, found) if found in range(2, 9) else rgb


def _by_pillow(data: bytes) -> ByteArray:
    return _rgb(_open(data))


def _rgb(image: Image.Image) -> ByteArray:
    """Grey of 16 bits is scaled to 8; what is transparent lies on white."""
    image.load()
    if image.mode.startswith("I;16") or image.mode == "I":
        grey = np.clip(np.asarray(image, dtype=np.int64) >> 8, 0, 255).astype(np.uint8)
        return np.ascontiguousarray(np.repeat(grey[..., None], 3, axis=2))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", layer.size, "white"), layer)
    return np.asarray(image.convert("RGB"))


def _upright(image: ByteArray, orientation: int) -> ByteArray:
    """Undoes an EXIF orientation (tag 0x0112): 2, 4, 5, 7 are mirrored; 3, 6, 8 are rotated."""
    turned = {
        2: lambda one: one[:, ::-1],
        3: lambda one: one[::-1, ::-1],
        4: lambda one: one[::-1],
        5: lambda one: one.transpose(1, 0, 2),
        6: lambda one: one.transpose(1, 0, 2)[:, ::-1],
        7: lambda one: one[::-1, ::-1].transpose(1, 0, 2),
        8: lambda one: one.transpose(1, 0, 2)[::-1],
    }[orientation](image)
    return np.ascontiguousarray(turned)
