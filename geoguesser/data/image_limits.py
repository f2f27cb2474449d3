"""Bounds on image files, checked from their structure before any decoder reads them.

A few kilobytes can describe gigabytes of pixels, or hours of work. The checks read the ten segment headers of an
ordinary JPEG, and search the bytes of a progressive one. Pillow itself bounds compressed text and colour profiles.
"""

from __future__ import annotations

import re
import struct

MAX_FILE_BYTES = 2**28

# Pillow's own limit, above which it assumes a decompression bomb.
MAX_PIXELS = 178_956_970

# Longest side that libjpeg reads and writes (JPEG_MAX_DIMENSION). One row of a PNG can be longer.
MAX_SIDE = 65_500

MAX_DECODED_BYTES = 2**30

# Memory that a decoder and the conversion to RGB take for a pixel. A WebP takes most: four copies of four bytes in
# libwebp and Pillow, then three in the result.
BYTES_PER_PIXEL = {"WEBP": 20, "CMYK": 12, "PNG": 9}
DEFAULT_BYTES_PER_PIXEL = 6

# Limit of libjpeg-turbo's own tools and fuzzers (TJFLAG_LIMITSCANS in turbojpeg.h); encoders write 10 to 20 scans.
MAX_SCANS = 500

# Each scan passes over the coefficients of all pixels: about a second of work in all.
MAX_SCANNED_PIXELS = 20 * MAX_PIXELS

# Segments of a JPEG, chunks of a PNG or WebP: 4 KiB each in the largest file.
MAX_PARTS = MAX_FILE_BYTES // 4096

# Bytes before the pixels of a JPEG. Panoramas can have a second picture and sound there.
MAX_METADATA_BYTES = 2**25

# Markers of segments (ITU-T T.81, table B.1). Within compressed pixels a byte FF is followed by 00 or by D0 to D7,
# and libjpeg-turbo skips markers below C0.
MARKER = re.compile(rb"\xff([\xc0-\xcf\xd8-\xfe])")
# Frame headers; C4, C8 and CC are other segments.
FRAMES = {*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC}
PROGRESSIVE_FRAMES = {0xC2, 0xC6, 0xCA, 0xCE}
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"


class TooLargeError(ValueError):
    """Raised for an image that needs more memory or time than the limits of this module allow."""


def check_image_file(data: bytes) -> None:
    """Checks the size of a file and the number of its parts and scans; other formats than JPEG, PNG, WebP pass.

    Raises:
        TooLargeError: A number exceeds its limit.
    """
    check_file_size(len(data))
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(PNG_SIGNATURE):
        _check_png(data)
    elif data.startswith(b"RIFF"):
        _check_webp(data)


def check_file_size(num_bytes: int) -> None:
    """Raises TooLargeError if a file is too large."""
    if num_bytes > MAX_FILE_BYTES:
        raise TooLargeError(f"{num_bytes:,} bytes; the limit is {MAX_FILE_BYTES:,} bytes")


def check_pixels(width: int, height: int, kind: str | None) -> None:
    """Raises TooLargeError if an image has too many pixels, or a side is too long, for its decoder.

    `kind` is the format, or CMYK, as in `BYTES_PER_PIXEL`.
    """
    max_pixels = min(MAX_PIXELS, MAX_DECODED_BYTES // BYTES_PER_PIXEL.get(kind or "", DEFAULT_BYTES_PER_PIXEL))
    if width * height > max_pixels or max(width, height) > MAX_SIDE:
        raise TooLargeError(
            f"{width} x {height} pixels; the limit is {max_pixels:,} pixels, and {MAX_SIDE:,} a side"
        )


def _check_jpeg(data: bytes) -> None:
    """Counts the scans of a JPEG that has several; they follow each other, with tables in between."""
    pixels = components = scans = 0
    is_progressive = False
    position = 2
    for _ in range(MAX_PARTS):
        match = MARKER.search(data, position)
        if match is None or match[1][0] == END_OF_IMAGE:
            return
        marker, start = match[1][0], match.end()
        position = start + int.from_bytes(data[start : start + 2], "big")

        if marker in FRAMES and not components:
            height, width, components = struct.unpack_from(">HHB", data[start + 3 : start + 8].ljust(5, b"\0"))
            pixels, is_progressive = width * height, marker in PROGRESSIVE_FRAMES
        elif marker == START_OF_SCAN:
            scans += 1
            if start > MAX_METADATA_BYTES and scans == 1:
                raise TooLargeError(
                    f"{start:,} bytes before the pixels; the limit is {MAX_METADATA_BYTES:,} bytes"
                )
            # One scan with all components is the last one that is decoded.
            if not is_progressive and scans == 1 and data[start + 2 : start + 3] == bytes([components]):
                return
            if scans > MAX_SCANS or scans * pixels > MAX_SCANNED_PIXELS:
                raise TooLargeError(f"more than {scans - 1} scans of {pixels:,} pixels")
    raise TooLargeError(f"more than {MAX_PARTS:,} segments")


def _check_png(data: bytes) -> None:
    position = len(PNG_SIGNATURE)
    for _ in range(MAX_PARTS):
        length, name = struct.unpack(">I4s", data[position : position + 8].ljust(8, b"\0"))
        # Length and name before the content of a chunk, a checksum of four bytes after it.
        position += 12 + length
        if name == b"IEND" or position >= len(data):
            return
    raise TooLargeError(f"more than {MAX_PARTS:,} chunks")


def _check_webp(data: bytes) -> None:
    # The RIFF header holds the size of the file; what follows is not read.
    end = min(len(data), 8 + int.from_bytes(data[4:8], "little"))
    position = 12
    for _ in range(MAX_PARTS):
        length = int.from_bytes(data[position + 4 : position + 8], "little")
        # Name and length before the content of a chunk, which is padded to an even length.
        position += 8 + length + length % 2
        if position >= end:
            return
    raise TooLargeError(f"more than {MAX_PARTS:,} chunks")
