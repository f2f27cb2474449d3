"""Random pictures with structure at several scales, and checks of drawn picture files."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
from PIL import Image


def make_picture(seed: int, height: int = 96, width: int = 96) -> Image.Image:
    """Makes a picture with coarse and fine structure, different for each seed."""
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((width, height), 3)
    noise = random.normal(0, 6, (height, width, 3))
    return Image.fromarray(np.clip(np.asarray(coarse) + noise, 0, 255).astype(np.uint8))


def encode_image(image: Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Encodes an image with Pillow."""
    stream = io.BytesIO()
    image.save(stream, kind, **options)
    return stream.getvalue()


def check_picture(path: Path, width: int = 1200, heights: tuple[int, int] = (400, 1200)) -> np.ndarray:
    """Checks that a file is a PNG picture of that width and a height in that range, and returns its RGB levels."""
    with Image.open(path) as picture:
        assert (picture.format, picture.width) == ("PNG", width)
        assert heights[0] < picture.height < heights[1]
        return np.asarray(picture.convert("RGB"), dtype=int)


def draw_picture(folder: Path, draw: Callable[..., Any], *, width: int = 1200, **options: Any) -> np.ndarray:
    """Draws a picture into a new folder, checks it, and returns its RGB levels."""
    path = folder / "new" / "a.png"
    draw(path, **options)
    return check_picture(path, width)


def check_same_twice(folder: Path, draw: Callable[..., Any], *, width: int = 1200, **options: Any) -> np.ndarray:
    """Draws a picture twice, and checks that the bytes are equal and that no other file and no setting changes."""
    settings = dict(matplotlib.rcParams)
    pixels = draw_picture(folder, draw, width=width, **options)
    draw(folder / "new" / "b.png", **options)
    first, second = (folder / "new").iterdir()
    assert first.read_bytes() == second.read_bytes()
    assert dict(matplotlib.rcParams) == settings
    return pixels


def count_colour(pixels: np.ndarray, colour: tuple[int, int, int], tolerance: int = 8) -> int:
    """Returns the number of pixels whose levels are near those of a colour."""
    return int((np.abs(pixels - colour).max(axis=-1) < tolerance).sum())


def measure_ink(pixels: np.ndarray) -> float:
    """Returns the share of pixels that are not white."""
    return float((pixels.min(axis=-1) < 250).mean())
