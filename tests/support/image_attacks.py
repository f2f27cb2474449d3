"""Image files that are small and ask a decoder for hours of work or gigabytes of memory."""

from __future__ import annotations

import re
import struct
import zlib

from PIL import Image

from support.pictures import encode_image as encode

MARKER = re.compile(rb"\xff[^\x00\xd0-\xd7]")


def make_scan_bomb(width: int, height: int, scans: int, *, between: bytes = b"") -> bytes:
    """Makes a progressive JPEG that repeats one scan without changing a pixel, with segments in between."""
    data = encode(Image.new("RGB", (width, height), "olive"), progressive=True)
    starts = [match.start() for match in re.finditer(b"\xff\xda", data)]

    # The first scan of all AC coefficients of one component; at full precision it may be repeated.
    scan = next(start for start in starts if data[start + 4] == 1 and data[start + 7 : start + 10] == b"\1\x3f\1")
    tables = data.rindex(b"\xff\xc4", 0, scan)
    end = MARKER.search(data, scan + 10).start()
    repeated = data[scan : scan + 9] + b"\0" + data[scan + 10 : end] + between
    return data[: data.rindex(b"\xff\xc4", 0, starts[1])] + data[tables:scan] + repeated * scans + b"\xff\xd9"


def make_segment(marker: int, content: bytes) -> bytes:
    """Makes a segment of a JPEG."""
    return struct.pack(">BBH", 0xFF, marker, len(content) + 2) + content


def make_chunk(name: bytes, content: bytes = b"") -> bytes:
    """Makes a chunk of a PNG."""
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))


def make_png(
    width: int, height: int, *, bits: int = 8, colour: int = 0, extra: bytes = b"", shown_width: int | None = None
) -> bytes:
    """Makes a black PNG of any size without holding its pixels in memory, with chunks before the pixels.

    `shown_width` is the width that its header declares.
    """
    channels = {0: 1, 2: 3, 4: 2, 6: 4}[colour]
    row = bytes(1 + width * channels * bits // 8)
    compressor = zlib.compressobj(9)
    pixels = b"".join(compressor.compress(row) for _ in range(height)) + compressor.flush()
    header = struct.pack(">IIBBBBB", shown_width or width, height, bits, colour, 0, 0, 0)
    chunks = make_chunk(b"IHDR", header) + extra + make_chunk(b"IDAT", pixels) + make_chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + chunks


def make_exif_bomb(entries: int, num_bytes: int) -> bytes:
    """Makes EXIF whose entries all claim the same bytes."""
    fields = b"".join(struct.pack("<HHII", i, 1, num_bytes, 8) for i in range(entries))
    return (b"II*\0" + struct.pack("<IH", 8, entries) + fields + bytes(4)).ljust(num_bytes + 8, b"\0")
