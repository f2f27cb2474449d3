"""Jobs for decoder processes, in place of images that make a decoder hang, crash or fill the memory."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from geoguesser.app.decoders import decode_views
from geoguesser.arrays import ByteArray
from geoguesser.data.images import ImageSpec

HANG, CRASH = b"\xff\xd8\xff hang", b"\xff\xd8\xff crash"


def decode_or_fail(data: bytes, specs: Sequence[ImageSpec], max_pixels: float) -> list[ByteArray]:
    """Decodes an image, except for two attacks."""
    if data == HANG:
        time.sleep(3600)
    if data == CRASH:
        os.abort()
    return decode_views(data, specs, max_pixels)


def fill_memory(num_bytes: int) -> list[ByteArray]:
    return [np.ones(num_bytes, dtype=np.uint8)[:1]]


def list_modules() -> list[ByteArray]:
    """Returns the names of the modules of the process as bytes."""
    return [np.frombuffer(" ".join(sys.modules).encode(), dtype=np.uint8)]


def return_object() -> list[ByteArray]:
    """Returns an object whose unpickling creates a file in the current directory."""
    return [np.array([Marker()], dtype=object)]


class Marker:
    def __reduce__(self) -> object:
        return Path.touch, (Path("marker"),)
