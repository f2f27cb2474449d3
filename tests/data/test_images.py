"""Images: against PIL, which has its own decoder, crop and resize."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import ExifTags, Image, ImageOps
from support.pictures import encode_image

from geoguesser.data.images import ImageSpec, read_header, to_upright_rgb
from geoguesser.errors import ConfigError, DataError


def scene(height: int, width: int, seed: int = 0) -> Image.Image:
    """Smooth hills of colour, different in each corner: any shift, flip or exchange of channels shows."""
    random = np.random.default_rng(seed)
    y, x = np.linspace(0, 1, height)[:, None, None], np.linspace(0, 1, width)[None, :, None]
    waves = random.uniform(2, 5, (2, 3))
    pixels = 127 + 60 * np.sin(waves[0] * x * 2 + (0, 1, 2)) + 60 * np.cos(waves[1] * y * 2 + (0, 2, 4))
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def jpeg(image: Image.Image, **options: Any) -> bytes:
    return encode_image(image, **{"quality": 95, **options})


def lossless(image: Image.Image, kind: str) -> bytes:
    return encode_image(image, kind, **({"lossless": True} if kind == "WEBP" else {}))


def turned(image: Image.Image, orientation: int, kind: str = "JPEG") -> bytes:
    exif = Image.Exif()
    exif[ExifTags.Base.Orientation] = orientation
    return encode_image(image, kind, exif=exif, **({"quality": 95} if kind != "PNG" else {}))


def by_pil(data: bytes, size: int, fit: str) -> np.ndarray:
    """(3, size, size) float."""
    image = Image.open(io.BytesIO(data)).convert("RGB")
    width, height = image.size
    if fit == "crop":
        side = min(width, height)
        left, top = (width - side) // 2, (height - side) // 2
        image = image.crop((left, top, left + side, top + side))
    method = Image.Resampling.BOX if min(width, height) >= size else Image.Resampling.BICUBIC
    return np.asarray(image.resize((size, size), method)).transpose(2, 0, 1).astype(float)


def difference(first: np.ndarray, second: np.ndarray) -> float:
    return float(np.abs(first.astype(float) - second).mean())


# The last four are as small as the view, or smaller.
SHAPES = [(224, 224), (300, 640), (640, 300), (333, 517), (1000, 1333), (48, 48), (48, 97), (13, 20), (47, 60)]


@pytest.mark.parametrize("fit", ["crop", "squash"])
@pytest.mark.parametrize("shape", SHAPES)
def test_views_are_those_of_pil(shape: tuple[int, int], fit: str) -> None:
    data = jpeg(scene(*shape))
    view = ImageSpec(size=48, fit=fit).decode(data)
    assert (view.shape, view.dtype) == ((3, 48, 48), np.uint8)
    assert view.flags["C_CONTIGUOUS"]
    assert difference(view, by_pil(data, 48, fit)) < 1.5


@pytest.mark.parametrize("shape", [(1, 1), (1, 5), (3, 400), (16, 16)])
@pytest.mark.parametrize("fit", ["crop", "squash"])
def test_views_of_a_few_pixels_are_of_one_colour_still(shape: tuple[int, int], fit: str) -> None:
    data = jpeg(Image.new("RGB", (shape[1], shape[0]), (200, 100, 20)))
    view = ImageSpec(size=32, fit=fit).decode(data)
    np.testing.assert_allclose(view, np.broadcast_to(np.array([200, 100, 20])[:, None, None], (3, 32, 32)), atol=2)


@pytest.mark.parametrize(("height", "width"), [(64, 192), (192, 64)])
def test_the_crop_is_the_middle(height: int, width: int) -> None:
    """Red and blue thirds beside a green one: green alone is left."""
    pixels = np.zeros((192, 64, 3), np.uint8)
    pixels[:64, :, 0], pixels[64:128, :, 1], pixels[128:, :, 2] = 255, 255, 255
    image = Image.fromarray(pixels if height == 192 else pixels.transpose(1, 0, 2))
    data = jpeg(image, quality=100, subsampling=0)
    cropped = ImageSpec(size=32, fit="crop").decode(data)
    np.testing.assert_allclose(cropped[:, 4:-4, 4:-4].mean((1, 2)), [0, 255, 0], atol=2)
    squashed = ImageSpec(size=48, fit="squash").decode(data)
    np.testing.assert_allclose(squashed.mean((1, 2)), [85, 85, 85], atol=3)


def test_shrinking_is_a_mean_and_not_a_pick() -> None:
    """A chequerboard of single pixels becomes grey; picked pixels would be black or white."""
    board = (np.indices((96, 96)).sum(0) % 2 * 255).astype(np.uint8)
    view = ImageSpec(size=16).decode(jpeg(Image.fromarray(np.stack([board] * 3, -1)), quality=100, subsampling=0))
    np.testing.assert_allclose(view, 127.5, atol=3)


@pytest.mark.parametrize(
    ("mode", "options"),
    [
        *(("RGB", options) for options in ({"progressive": True}, {"subsampling": 0}, {"subsampling": 1})),
        *(("RGB", {"quality": 30}), ("L", {}), ("CMYK", {})),
    ],
)
def test_all_ways_of_coding_are_read(mode: str, options: dict[str, Any]) -> None:
    data = jpeg(scene(150, 200).convert(mode), **options)
    assert difference(ImageSpec(size=64).decode(data), by_pil(data, 64, "crop")) < 3


def test_resize_takes_pixels_as_decode_does() -> None:
    """The same function serves pixels from elsewhere, such as an upload."""
    pixels = np.asarray(scene(100, 140))
    before = pixels.copy()
    view = ImageSpec(size=50).resize_chw(pixels)
    means = pixels[:, 20:120].reshape(50, 2, 50, 2, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(view, means, atol=0.51)  # rounded
    np.testing.assert_array_equal(pixels, before)


def test_an_image_of_its_size_is_left_as_it_is() -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (32, 40, 3), np.uint8)
    np.testing.assert_array_equal(ImageSpec(size=32).resize_chw(pixels), pixels[:, 4:36].transpose(2, 0, 1))


# What is no whole JPEG


@pytest.mark.parametrize("progressive", [False, True])
def test_a_truncated_image_is_refused_wherever_it_ends(progressive: bool) -> None:
    """A lenient decoder would hand out its missing part as grey."""
    data = jpeg(scene(60, 80), progressive=progressive)
    for end in (*range(0, len(data), 40), -3, -2, -1):
        with pytest.raises(ValueError, match=r".+"):
            ImageSpec(size=16).decode(data[:end])


NO_IMAGE = {
    "empty": b"",
    "text": b"<html>429 Too Many Requests</html>",
    "GIF": encode_image(scene(30, 30), "GIF"),
    "cut PNG": encode_image(scene(30, 30), "PNG")[:-300],
    "cut WebP": encode_image(scene(30, 30), "WEBP")[:-30],
    "PNG mark alone": encode_image(scene(30, 30), "PNG")[:8],
    "mark alone": b"\xff\xd8\xff",
}


@pytest.mark.parametrize("data", NO_IMAGE.values(), ids=NO_IMAGE.keys())
def test_a_file_that_is_none_is_named(data: bytes, tmp_path: Path) -> None:
    path = tmp_path / "0.jpg"
    path.write_bytes(data)
    with pytest.raises(DataError, match=rf"^{path} is not a complete image \(.+\)\.$") as caught:
        ImageSpec(size=16).read(path)
    assert ("(the file is empty)" in str(caught.value)) == (not data)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    for path, why in ((tmp_path / "0.jpg", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(DataError, match=rf"^{path} cannot be read \({why}\)"):
            ImageSpec(size=16).read(path)


@pytest.mark.parametrize(
    ("key", "values", "rule"),
    [
        ("size", [15, 0, -112, 4097, 112.0, "112", True, None], "an integer from 16 to 4096"),
        ("fit", ["Crop", "pad", "", None], "one of crop, squash"),
        ("normalise", ["imagenet", "", None], "one of backbone, dataset"),
    ],
)
def test_values_that_are_none(key: str, values: list[Any], rule: str) -> None:
    for value in values:
        with pytest.raises(ConfigError, match=rf"^image\.{key} must be {rule}, got {value!r}"):
            ImageSpec(**{key: value})


# Other formats, modes and orientations


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_other_formats_are_read(kind: str) -> None:
    data = lossless(scene(150, 200), kind)
    assert difference(ImageSpec(size=64).decode(data), by_pil(data, 64, "crop")) < 1
    header = read_header(data)
    assert (header.width, header.height, header.mode, header.uses_turbojpeg) == (200, 150, "RGB", False)


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_what_is_transparent_lies_on_white(kind: str) -> None:
    pixels = np.zeros((40, 40, 4), np.uint8)
    pixels[:20] = (200, 100, 20, 255)
    pixels[20:] = (0, 0, 0, 0)
    data = lossless(Image.fromarray(pixels), kind)
    assert read_header(data).mode == "transparent"
    view = ImageSpec(size=40).decode(data)
    np.testing.assert_allclose(view[:, :20].mean((1, 2)), (200, 100, 20), atol=1)
    np.testing.assert_allclose(view[:, 20:].mean((1, 2)), (255, 255, 255), atol=1)


def test_palettes_become_rgb() -> None:
    image = scene(80, 80).quantize(64)
    data = encode_image(image, "PNG")
    assert read_header(data).mode == "palette"
    view = ImageSpec(size=80).decode(data)
    np.testing.assert_array_equal(view, np.asarray(image.convert("RGB")).transpose(2, 0, 1))
    clear = encode_image(scene(80, 80).convert("P"), "PNG", transparency=0)
    assert read_header(clear).mode == "transparent"


def test_grey_of_sixteen_bits_is_scaled_and_not_cut() -> None:
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    data = encode_image(Image.fromarray(ramp), "PNG")
    assert read_header(data).mode == "grey"
    view = ImageSpec(size=64).decode(data)
    np.testing.assert_allclose(view[1], ramp / 257.0, atol=1.01)
    np.testing.assert_array_equal(view[0], view[2])


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_exif_orientations_are_undone(orientation: int, kind: str) -> None:
    """Against Pillow's own transposition, on a picture whose eight orientations all differ."""
    data = turned(scene(60, 100), orientation, kind)
    assert read_header(data).orientation == orientation
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data)))
    middle = by_pil(encode_image(upright, "PNG"), 60, "crop")
    assert difference(ImageSpec(size=60).decode(data), middle) < 2
    others = [middle[:, ::-1], middle[:, :, ::-1], middle.transpose(0, 2, 1)]
    assert min(difference(ImageSpec(size=60).decode(data), one) for one in others) > 5


def test_damaged_exif_does_not_break_a_whole_picture() -> None:
    whole = turned(scene(60, 60), 6)
    at = whole.index(b"Exif\0\0") + 6
    for damage in (b"XX*\0", b"II*\0\xff\xff\xff\xff", b""):
        data = whole[:at] + damage + whole[at + len(damage) :]
        assert ImageSpec(size=32).decode(data).shape == (3, 32, 32)
    assert read_header(turned(scene(60, 60), 77)).orientation == 1


def test_exif_is_found_behind_other_segments_and_not_in_the_picture() -> None:
    comment = b"\xff\xfe" + (1002).to_bytes(2, "big") + b"Exif" + bytes(996)
    for data, orientation in ((turned(scene(60, 60), 3), 3), (jpeg(scene(60, 60)), 1)):
        assert read_header(data[:2] + comment + data[2:]).orientation == orientation


def test_a_picture_that_was_opened_comes_upright_and_in_rgb() -> None:
    pixels = np.zeros((4, 6, 3), dtype=np.uint8)
    pixels[:, :3] = (255, 0, 0)
    image = Image.fromarray(pixels)
    np.testing.assert_array_equal(to_upright_rgb(image), pixels)
    right = Image.open(io.BytesIO(turned(image, 6, "PNG")))  # to be turned by a quarter to the right
    np.testing.assert_array_equal(to_upright_rgb(right), np.rot90(pixels, k=-1))
    grey = Image.fromarray(np.full((2, 2), 0x8000, dtype=np.uint16))
    np.testing.assert_array_equal(to_upright_rgb(grey), np.full((2, 2, 3), 0x80))
