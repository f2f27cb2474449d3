"""Examining: one reading gives pixels, facts and what is remarkable; planted cases are found, others are not."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import xxhash
from conftest import SAMPLE
from PIL import Image, ImageDraw
from support.pictures import encode_image, make_picture

from geoguesser.data import views as views_module
from geoguesser.data.checks import inspection as module
from geoguesser.data.checks.image_stats import BROKEN, MISSING, OK, PLACEHOLDER
from geoguesser.data.checks.inspection import inspect_in_order, inspect_place
from geoguesser.data.checks.picture_hash import compute_hash_distance, compute_picture_hash
from geoguesser.data.images import MODES, ImageSpec
from geoguesser.data.place_files import PlaceFiles

SPEC = ImageSpec(size=48)


def put(folder: Path, **files: Image.Image | bytes) -> PlaceFiles:
    """A place whose views are scenes, but for those given: h0=..., h90=..."""
    folder.mkdir(parents=True, exist_ok=True)
    for number, heading in enumerate((0, 90, 180, 270)):
        own = files.get(f"h{heading}", make_picture(number))
        if isinstance(own, bytes):
            (folder / f"{heading}.jpg").write_bytes(own)
        else:
            own.save(folder / f"{heading}.jpg", "JPEG", quality=92)
    return PlaceFiles(str(folder))


def kinds(files: PlaceFiles, spec: ImageSpec = SPEC) -> list[tuple[int, str]]:
    return [(heading, one.kind) for heading, one in inspect_place(files, [spec]).findings]


def test_a_plain_place_has_facts_and_nothing_remarkable(tmp_path: Path) -> None:
    files = put(tmp_path / "a", h90=make_picture(5, 90, 130))
    result = inspect_place(files, [SPEC])
    assert (result.findings, result.num_unreadable) == ([], 0)
    assert result.views["state"].tolist() == [OK] * 4
    assert result.views["width"].tolist() == [96, 130, 96, 96]
    assert result.views["height"].tolist() == [96, 90, 96, 96]
    assert [MODES[mode] for mode in result.views["mode"]] == ["RGB"] * 4
    for heading in range(4):
        data = Path(files.path(heading)).read_bytes()
        assert result.views["bytes"][heading] == len(data)
        assert result.views["digest"][heading].astype("<u8").tobytes() == xxhash.xxh3_128(data).digest()
        np.testing.assert_array_equal(result.images[0][heading], SPEC.decode(data))
    pixels = result.images[0].astype(np.int64)
    np.testing.assert_array_equal(result.sums[0][:, 0], pixels.sum(axis=(2, 3)))
    np.testing.assert_array_equal(result.sums[0][:, 1], (pixels**2).sum(axis=(2, 3)))
    blocks = pixels.reshape(4, 3, 8, 6, 8, 6).mean((3, 5))
    np.testing.assert_allclose(result.thumbnails[0], blocks, atol=0.51)


def test_sums_stay_exact_on_the_largest_views() -> None:
    image = np.full((4096, 4096, 3), 255, np.uint8)
    image[0, 0] = 254
    count = 4096 * 4096
    assert module._sum_pixels(image).tolist() == [[255 * count - 1] * 3, [255**2 * count - 509] * 3]


def test_several_sizes_in_one_pass_are_what_each_alone_would_be(tmp_path: Path) -> None:
    files = put(tmp_path / "a", h0=make_picture(9, 640, 640), h90=encode_image(make_picture(8, 300, 200), "PNG"))
    specs = [ImageSpec(size=48), ImageSpec(size=112), ImageSpec(size=224, fit="squash")]
    together = inspect_place(files, specs)
    for number, spec in enumerate(specs):
        alone = inspect_place(files, [spec])
        for name in ("images", "thumbnails", "sums"):
            np.testing.assert_array_equal(getattr(together, name)[number], getattr(alone, name)[0])


# What is remarkable


@pytest.mark.parametrize(
    ("view", "kind", "reason"),
    [
        (make_picture(1, 15, 20), "placeholder_image", "is a tiny image of 20 x 15 pixels"),
        (Image.new("RGB", (96, 96), (228, 227, 223)), "placeholder_image", "shows nothing: 95% of it"),
        (encode_image(make_picture(1).convert("CMYK")), "unusual_mode", "is CMYK, turned into RGB"),
        (make_picture(1, 96, 200), "odd_aspect", "is 200 x 96 pixels: image.fit=crop cuts its ends off"),
        (make_picture(1, 192, 96), "odd_aspect", "is 96 x 192 pixels"),
        (b"<html>404</html>", "broken_image", "is not a complete image (no JPEG, PNG or WebP"),
    ],
)
def test_each_kind_is_found(view: Image.Image | bytes, kind: str, reason: str, tmp_path: Path) -> None:
    result = inspect_place(put(tmp_path / "a", h180=view), [SPEC])
    assert [(heading, one.kind) for heading, one in result.findings] == [(2, kind)]
    assert result.findings[0][1].where == f"{tmp_path}/a/180.jpg"
    assert result.findings[0][1].reason.startswith(reason)
    state = {"broken_image": BROKEN, "placeholder_image": PLACEHOLDER}.get(kind, OK)
    assert result.views["state"].tolist() == [OK, OK, state, OK]
    assert result.num_unreadable == 0


def test_a_turned_image_is_found_and_stands_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    image = make_picture(1)
    files = put(tmp_path / "a", h0=encode_image(image, exif=exif, quality=95))
    result = inspect_place(files, [ImageSpec(size=96)])
    [(heading, finding)] = result.findings
    assert (heading, finding.kind) == (0, "turned_image")
    assert finding.reason == "has EXIF orientation 6, turned upright"
    upright = np.asarray(image.rotate(-90)).transpose(2, 0, 1).astype(int)
    assert np.abs(result.images[0][0].astype(int) - upright).mean() < 8


def test_a_picture_that_says_no_imagery_is_a_placeholder(tmp_path: Path) -> None:
    """As providers draw it: a line of text on grey."""
    image = Image.new("RGB", (640, 640), (228, 227, 223))
    ImageDraw.Draw(image).text((230, 310), "Sorry, we have no imagery here.", fill=(100, 100, 100))
    assert kinds(put(tmp_path / "a", h0=image), ImageSpec(size=112)) == [(0, "placeholder_image")]


@pytest.mark.parametrize("brightness", [0.06, 0.15, 1.0])
def test_dark_and_foggy_pictures_are_pictures(brightness: float, tmp_path: Path) -> None:
    dark = make_picture(4).point(lambda value: int(value * brightness))
    fog = make_picture(4).point(lambda value: int(180 + value * 0.1))
    assert kinds(put(tmp_path / "a", h0=dark, h90=fog)) == []


def test_usual_aspects_are_not_odd(tmp_path: Path) -> None:
    assert kinds(put(tmp_path / "a", h0=make_picture(1, 90, 160), h90=make_picture(2, 100, 199))) == []


def test_files_that_cannot_be_read_are_told_from_those_that_are_broken(tmp_path: Path) -> None:
    files = put(tmp_path / "a", h0=b"")
    (tmp_path / "a/90.jpg").unlink()
    result = inspect_place(files, [SPEC])
    assert result.views["state"].tolist() == [BROKEN, BROKEN, OK, OK]
    assert result.num_unreadable == 1
    assert result.findings[1][1].reason == "cannot be read (No such file or directory)"
    result = inspect_place(PlaceFiles(files.folder, (None, None, "180.jpg", "270.jpg")), [SPEC])
    assert result.views["state"].tolist() == [MISSING, MISSING, OK, OK]
    assert (result.findings, result.num_unreadable) == ([], 0)


# The hash of a picture


def test_the_hash_is_the_signs_of_steps_between_blocks() -> None:
    luma = np.arange(64, dtype=np.uint8).reshape(8, 8)
    thumbnail = np.repeat(luma[None], 3, axis=0)
    rising = compute_picture_hash(thumbnail)
    assert [bin(int(part)).count("1") for part in rising] == [56, 56]
    assert [int(part) for part in compute_picture_hash(thumbnail[:, ::-1, ::-1])] == [0, 0]
    assert int(compute_hash_distance(rising, compute_picture_hash(thumbnail[:, :, ::-1]))) == 56
    flat = compute_picture_hash(np.zeros((5, 4, 3, 8, 8), np.uint8))
    assert flat.shape == (5, 4, 2)
    assert not flat.any()


@pytest.mark.parametrize("seed", range(8))
def test_a_picture_coded_anew_has_nearly_the_same_hash(seed: int, tmp_path: Path) -> None:
    image, other = make_picture(seed, 240, 240), make_picture(seed + 100, 240, 240)
    again = encode_image(image, quality=40)
    smaller = encode_image(image.resize((200, 200), 1), quality=75)
    result = inspect_place(put(tmp_path / "a", h0=image, h90=again, h180=smaller, h270=other), [SPEC])
    hashes = result.views["hash"]
    assert compute_hash_distance(hashes[0], hashes[1]) <= 10
    assert compute_hash_distance(hashes[0], hashes[2]) <= 10
    assert compute_hash_distance(hashes[0], hashes[3]) > 20


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real sample is not here")
def test_real_places_are_told_apart() -> None:
    folders = sorted(path for root in SAMPLE.iterdir() for path in (root / "images").iterdir())
    result = [inspect_place(PlaceFiles(str(path)), [ImageSpec(size=112)]) for path in folders]
    assert [one.findings for one in result] == [[] for _ in result]
    hashes = np.stack([one.views["hash"] for one in result])
    apart = np.sort(compute_hash_distance(hashes[:, None], hashes[None]), axis=-1)[..., 2]
    assert apart[~np.eye(len(apart), dtype=bool)].min() > 20  # the third most alike of four views


# Many places


def test_places_come_in_order_and_few_are_in_flight(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each place waits a time of its own, so that another thread may overtake it."""
    places = [put(tmp_path / "a"), put(tmp_path / "b", h0=make_picture(7))] * 30
    begun, lock = [0], threading.Lock()

    def slow(*arguments: Any) -> Any:
        with lock:
            begun[0] += 1
        time.sleep(np.random.default_rng().uniform(0, 0.01))
        return inspect_place(*arguments)

    monkeypatch.setattr(module, "inspect_place", slow)
    monkeypatch.setattr(views_module, "MAX_PREFETCH_BYTES", 8 * 12 * 48**2)
    digests = [inspect_place(files, [SPEC]).views["digest"] for files in places[:2]]
    results = inspect_in_order(places, [SPEC])
    for done, result in enumerate(results):
        np.testing.assert_array_equal(result.views["digest"], digests[done % 2])
        assert begun[0] <= done + 1 + 8 + 2
    assert done == 59
    stopped = inspect_in_order(places, [SPEC])
    next(stopped)
    stopped.close()  # whoever stops early waits for what is in flight alone
    assert begun[0] < 60 + 25
