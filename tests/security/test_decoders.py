"""The server decodes in processes that it can end, and answers other clients meanwhile."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import httpx
import numpy as np
import pytest
from PIL import Image
from support.app_server import make_toy_models, serve_models
from support.decoder_jobs import CRASH, HANG, decode_or_fail, fill_memory, list_modules, return_object
from support.image_attacks import encode, make_png, make_scan_bomb

from geoguesser.app import uploads
from geoguesser.app.decoders import Decoders, DecodingError, decode_views
from geoguesser.app.registry import ServedModel
from geoguesser.data.image_limits import TooLargeError
from geoguesser.data.images import ImageSpec

PHOTO = encode(Image.new("RGB", (64, 48), "olive"))
SPECS = [ImageSpec(size=32)]


@pytest.fixture
def decoders() -> Iterator[Decoders]:
    decoders = Decoders(1, max_s=1.0, max_pixels=1e6, max_bytes=2**20)
    yield decoders
    decoders.close()


@pytest.fixture(scope="module")
def models() -> list[ServedModel]:
    return make_toy_models()


def decode(decoders: Decoders, data: bytes) -> list[np.ndarray]:
    return decoders.run(decode_or_fail, data, SPECS, 1e6)


def test_a_process_that_hangs_or_crashes_is_replaced(decoders):
    expected = SPECS[0].decode(PHOTO)
    np.testing.assert_array_equal(decode(decoders, PHOTO)[0], expected)

    start_s = time.monotonic()
    with pytest.raises(DecodingError, match="more than 1 s"):
        decode(decoders, HANG)
    assert time.monotonic() - start_s < 5
    with pytest.raises(DecodingError, match="crashed"):
        decode(decoders, CRASH)
    np.testing.assert_array_equal(decode(decoders, PHOTO)[0], expected)


def test_errors_of_images(decoders):
    with pytest.raises(TooLargeError, match="2000 x 1000 pixels; the limit is 1 megapixels"):
        decoders.run(decode_views, make_png(2000, 1000), SPECS, 1e6)
    with pytest.raises(TooLargeError, match="scans"):
        decoders.run(decode_views, make_scan_bomb(64, 64, 8000), SPECS, 1e6)
    with pytest.raises(DecodingError, match=r"\w"):
        decoders.run(decode_views, PHOTO[:200], SPECS, 1e6)


def test_the_memory_of_a_process_is_limited(decoders):
    with pytest.raises(DecodingError, match="memory"):
        decoders.run(fill_memory, 2**30)
    assert decoders.run(fill_memory, 2**26)[0].tolist() == [1]


def test_a_process_imports_little_and_its_objects_are_not_unpickled(decoders, tmp_path, monkeypatch):
    modules = set(decoders.run(list_modules)[0].tobytes().decode().split())
    assert "PIL.Image" in modules
    assert modules.isdisjoint({"torch", "fastapi", "pandas", "geopandas"})

    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match="allow_pickle"):
        decoders.run(return_object)
    assert list(tmp_path.iterdir()) == []


def test_closing_ends_a_job_and_its_process(decoders):
    decode(decoders, PHOTO)
    (decoder,) = decoders._all
    pid = decoder._process.pid
    threading.Timer(0.3, decoders.close).start()
    with pytest.raises(DecodingError):
        decode(decoders, HANG)
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(DecodingError):
        decode(decoders, PHOTO)


def test_others_are_answered_while_a_photo_hangs(models, monkeypatch):
    monkeypatch.setattr(uploads, "decode_views", decode_or_fail)
    with serve_models(models, decode_s=4.0) as address:

        def post(data: bytes) -> httpx.Response:
            return httpx.post(f"{address}api/v1/predict", files={"north": ("a.jpg", data)}, timeout=60)

        assert post(PHOTO).status_code == 200
        attacks: list[httpx.Response] = []
        thread = threading.Thread(target=lambda: attacks.append(post(HANG)))
        thread.start()
        time.sleep(0.5)

        # The other decoder answers.
        assert post(PHOTO).status_code == 200
        assert httpx.get(f"{address}api/v1/health").json()["at_work"] == 1
        assert not attacks
        thread.join()
        assert attacks[0].status_code == 422
        assert attacks[0].json()["detail"] == "north cannot be decoded (it took more than 4 s)."
        assert post(CRASH).status_code == 422
        assert post(PHOTO).status_code == 200


@pytest.mark.slow
def test_both_decoders_are_free_again_after_attacks(models, monkeypatch):
    monkeypatch.setattr(uploads, "decode_views", decode_or_fail)
    with serve_models(models, decode_s=2.0) as address:

        def post(data: bytes) -> int:
            response = httpx.post(f"{address}api/v1/predict", files={"north": ("a.jpg", data)}, timeout=120)
            return response.status_code

        threads = [threading.Thread(target=post, args=(HANG,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        start_s = time.monotonic()
        assert post(PHOTO) == 200
        # Two rounds of two attacks, and the starts of processes.
        assert time.monotonic() - start_s < 30
        for thread in threads:
            thread.join()
