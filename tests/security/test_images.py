"""Image files that ask for hours of work or gigabytes of memory are refused before they are decoded."""

from __future__ import annotations

import io
import os
import struct
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from support.image_attacks import encode, make_chunk, make_exif_bomb, make_png, make_scan_bomb, make_segment

from geoguesser.collecting.output_files import get_complete_view_size
from geoguesser.collecting.photos.exif import PhotoTags, parse_gpano, read_tags
from geoguesser.collecting.photos.writer import decode_photo
from geoguesser.data import image_limits
from geoguesser.data.image_limits import MAX_PARTS, MAX_SCANS, TooLargeError, check_image_file
from geoguesser.data.images import ImageSpec, decode_rgb, read_bytes, read_header, to_upright_rgb
from geoguesser.data.place_files import PlaceFiles
from geoguesser.data.views import decode_place
from geoguesser.errors import DataError
from geoguesser.runs.run_images import read_picture

MAX_WORK_S = 3.0
IMAGE = Image.new("RGB", (40, 30), "olive")
JPEG = encode(IMAGE)
PIXELS_END = make_chunk(b"IEND")
RIFF_START = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(10)


@contextmanager
def limited_time(max_s: float = MAX_WORK_S) -> Iterator[None]:
    start_s = time.monotonic()
    yield
    assert time.monotonic() - start_s < max_s


def make_webp(chunks: bytes) -> bytes:
    return b"RIFF" + struct.pack("<I", len(RIFF_START + chunks)) + RIFF_START + chunks


ATTACKS = {
    # The file of the trial: it took minutes.
    "scans": lambda: make_scan_bomb(3000, 3000, 8000),
    # A comment between the scans that looks like the end of the image, or a marker that hides a scan.
    "scans behind an end": lambda: make_scan_bomb(99, 99, 999, between=make_segment(0xFE, b"\xff\xd9")),
    "scans of many pixels": lambda: make_scan_bomb(9000, 9000, 60),
    "segments": lambda: JPEG[:2] + make_segment(0xED, b"") * 99_999 + JPEG[2:],
    "metadata": lambda: JPEG[:2] + make_segment(0xE1, b"Exif\0\0".ljust(65_000)) * 600 + JPEG[2:],
    "pixels of a JPEG": lambda: JPEG.replace(struct.pack(">HH", 30, 40), struct.pack(">HH", 65_000, 65_000)),
    "pixels of a PNG": lambda: make_png(8, 8, shown_width=99_999_999),
    "chunks of a PNG": lambda: make_png(8, 8, extra=make_chunk(b"prVt") * 99_999),
    "chunks after the pixels": lambda: make_png(8, 8)[: -len(PIXELS_END)] + make_chunk(b"prVt") * 99_999,
    "chunks of a WebP": lambda: make_webp(b"abcd\0\0\0\0" * 99_999),
    "bytes": lambda: JPEG + bytes(image_limits.MAX_FILE_BYTES),
}  # fmt: skip


@pytest.mark.parametrize("name", ATTACKS)
def test_each_reader_refuses_the_file_at_once(name, tmp_path):
    data = ATTACKS[name]()
    path = tmp_path / "images" / "a" / "0.jpg"
    path.parent.mkdir(parents=True)
    path.write_bytes(data)
    place = PlaceFiles(str(path.parent), ("0.jpg", None, None, None))

    with limited_time():
        # `predict`, the server, and the commands that read a data set.
        with pytest.raises(TooLargeError, match=r"limit|more than"):
            read_header(data)
        with pytest.raises(DataError, match=r"0\.jpg is (not a complete image|too large)"):
            ImageSpec(size=32).read(path)
        assert list(decode_place(place, [ImageSpec(size=32)]).errors) == [0]

        # The game, `report` and `compare`.
        with pytest.raises((DataError, ValueError)):
            read_picture("a", tmp_path, 0, 640)

        # `collect`.
        assert read_tags(data) == PhotoTags()
        with pytest.raises(DataError):
            decode_photo(data, 32, "photo")
        assert get_complete_view_size(path) == 0


def test_ordinary_files_pass():
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (300, 400, 3), dtype=np.uint8))
    for settings in ({}, {"progressive": True}, {"progressive": True, "restart_marker_rows": 1}):
        read_header(encode(noise, **settings))
    # A video after the pixels, as in photos of phones, holds bytes that look like scans.
    read_header(encode(noise, progressive=True) + b"\xff\xda" * MAX_SCANS * 2)
    read_header(make_scan_bomb(64, 64, MAX_SCANS - 9))
    read_header(make_png(8, 8) + bytes(13 * MAX_PARTS))
    for kind in ("PNG", "WEBP"):
        read_header(encode(noise, kind))
    frames = [Image.new("RGB", (8, 8), (number, 0, 0)) for number in range(200)]
    for kind in ("PNG", "WEBP"):
        read_header(encode(frames[0], kind, save_all=True, append_images=frames[1:]))


@given(scans=st.integers(1, 30), comment=st.binary(max_size=40), fill=st.binary(max_size=6))
def test_no_segment_hides_a_scan(scans, comment, fill):
    # Markers below C0 and stuffed bytes are no segments, so that their length must not be believed.
    hidden = b"\xff\x02" + fill if b"\xff" not in fill else b""
    data = make_scan_bomb(16, 16, scans, between=make_segment(0xFE, comment) + hidden)
    limit, image_limits.MAX_SCANS = image_limits.MAX_SCANS, scans
    try:
        with pytest.raises(TooLargeError):
            check_image_file(data)
    finally:
        image_limits.MAX_SCANS = limit


@given(st.binary(max_size=300), st.sampled_from([b"\xff\xd8", b"\x89PNG\r\n\x1a\n", b"RIFF\xff\0\0\0WEBP"]))
def test_any_bytes_are_read_or_refused(data, start):
    with suppress(ValueError):
        read_header(start + data)


def test_the_orientation_of_a_png_may_follow_its_pixels():
    exif = Image.Exif()
    exif[0x0112] = 6
    end = make_chunk(b"eXIf", exif.tobytes()[6:]) + PIXELS_END
    assert read_header(make_png(8, 4)[: -len(PIXELS_END)] + end).orientation == 6
    assert read_header(encode(IMAGE, "PNG", exif=exif)).orientation == 6
    assert read_header(encode(IMAGE, "WEBP", exif=exif)).orientation == 6


def test_exif_that_claims_gigabytes(tmp_path):
    """60,000 entries of a megabyte each."""
    exif = make_exif_bomb(60_000, 2**20)
    with limited_time(), limited_memory(512):
        for data in (make_png(8, 8, extra=make_chunk(b"eXIf", exif)), encode(IMAGE, "WEBP", exif=exif)):
            assert read_tags(data) == PhotoTags()
            assert read_header(data).orientation == 1


def test_gpano_takes_linear_time():
    with limited_time():
        assert "a" not in parse_gpano("GPano:a>" * 99_999 + "GPano:b" + " " * 99_999)


def test_pipes_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "0.jpg")
    with limited_time(), pytest.raises(DataError, match="must be a regular file"):
        read_bytes(tmp_path / "0.jpg")


def test_a_pillow_image_of_the_user_has_the_same_limit(monkeypatch):
    monkeypatch.setattr(image_limits, "MAX_PIXELS", 100)
    with pytest.raises(TooLargeError):
        to_upright_rgb(IMAGE)


@contextmanager
def limited_memory(max_mib: int) -> Iterator[None]:
    """Limits the address space of this process to what it has and that number of MiB."""
    import resource

    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limits = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (used + max_mib * 2**20, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, limits)


@pytest.mark.slow
@pytest.mark.parametrize(("bits", "colour"), [(16, 0), (16, 4), (16, 6), (8, 6)])
def test_a_large_png_takes_memory_for_its_pixels_only(bits, colour, tmp_path):
    """50 megapixels took 1.5 GB: now 4 bytes a pixel in Pillow, and 3 in the result."""
    data = make_png(10_000, 5_000, bits=bits, colour=colour)
    (tmp_path / "a.png").write_bytes(data)
    code = (
        "import resource, sys; from geoguesser.data.images import *\n"
        "used = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "data = read_bytes(sys.argv[1]); decode_rgb(data, read_header(data), 112)\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - used)"
    )
    output = subprocess.run([sys.executable, "-c", code, tmp_path / "a.png"], capture_output=True, check=True)
    assert int(output.stdout) * 1024 < 8.5 * 50e6


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I;16"])
def test_strips_are_seamless(mode, monkeypatch):
    rng = np.random.default_rng(0)
    if mode == "I;16":
        image = Image.fromarray(rng.integers(0, 2**16, (50, 37), dtype=np.uint16))
    else:
        image = Image.fromarray(rng.integers(0, 256, (50, 37, 4), dtype=np.uint8), "RGBA").convert(mode)
    data = encode(image, "JPEG" if mode == "CMYK" else "PNG")

    header = read_header(data)
    expected = decode_rgb(data, header, 16)
    monkeypatch.setattr("geoguesser.data.images.STRIP_PIXELS", 100)
    np.testing.assert_array_equal(decode_rgb(data, header, 16), expected)


def make_raw_png(width: int, height: int, *, bits: int, colour: int, rows: bytes, palette: bytes = b"") -> bytes:
    """Makes a PNG of chunks that an encoder would not write."""

    def chunk(name: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))

    header = struct.pack(">IIBBBBB", width, height, bits, colour, 0, 0, 0)
    parts = [
        chunk(b"IHDR", header),
        chunk(b"PLTE", palette) if palette else b"",
        chunk(b"IDAT", zlib.compress(rows)),
    ]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts) + chunk(b"IEND", b"")


def test_a_palette_that_is_missing_is_a_damaged_image():
    with pytest.raises(ValueError, match="palette"):
        ImageSpec().decode(make_raw_png(8, 8, bits=8, colour=3, rows=8 * b"\0" * 9))


@pytest.mark.parametrize("kind", ["row", "webp", "cmyk"])
def test_pixels_are_bounded_by_what_their_decoder_needs(kind: str):
    """A WebP of 38 bytes took 2.8 GB, a PNG of one row of 178 million pixels 3.4 GB."""
    stream = io.BytesIO()
    if kind == "row":
        stream.write(make_raw_png(70_000, 1, bits=1, colour=0, rows=bytes(1 + 70_000 // 8)))
    elif kind == "webp":
        Image.new("RGB", (8000, 8000)).save(stream, "WEBP", lossless=True, quality=0, method=0)
    else:
        Image.new("CMYK", (9600, 9600)).save(stream, "JPEG")
    with pytest.raises(TooLargeError, match="pixels; the limit is"):
        read_header(stream.getvalue())
