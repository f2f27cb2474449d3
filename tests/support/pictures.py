"""Random pictures with structure at several scales."""

from __future__ import annotations

import io

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
