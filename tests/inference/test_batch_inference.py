"""Answering: places in order whatever the batches, on as many cores as there are, and threads are put back."""

from __future__ import annotations

import threading
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from support.toy_locators import IMAGES, make_locator

from geoguesser.inference.batch_inference import PredictedBatch, predict_places
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.inputs import find_places

BROKEN = 9


@pytest.fixture
def places(tmp_path: Path) -> Path:
    """Toyland's places as folders of lossless views; one of them has a file that is no picture."""
    for number, views in enumerate(IMAGES.numpy()):
        folder = tmp_path / f"{number:03d}"
        folder.mkdir()
        for heading, view in zip((0, 90, 180, 270), views, strict=True):
            Image.fromarray(view.transpose(1, 2, 0)).save(folder / f"{heading}.png")
    for heading in (0, 90, 180, 270):
        (tmp_path / f"{BROKEN:03d}" / f"{heading}.png").write_bytes(b"no picture")
    return tmp_path


def answered(batches: list[PredictedBatch]) -> np.ndarray:
    """The rows' points, NaN where there is no answer."""
    points = np.full((sum(len(one.rows) for one in batches), 2), np.nan)
    for one in batches:
        if one.predictions is not None:
            points[one.rows[one.present.any(axis=1)]] = one.predictions.coords_deg
    return points


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
@pytest.mark.parametrize("count", [1, 3])
def test_places_are_answered_in_order_on_any_number_of_cores(
    places: Path, batch_size: int, count: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("geoguesser.inference.batch_inference.count_cores", lambda: count)
    ensemble = Ensemble([make_locator(0)])
    found = list(predict_places(ensemble, find_places(str(places)), batch_size=batch_size))
    np.testing.assert_array_equal(np.concatenate([one.rows for one in found]), np.arange(len(IMAGES)))
    assert max(len(one.rows) for one in found) <= batch_size
    wanted = ensemble.predict([IMAGES]).coords_deg
    wanted[BROKEN] = np.nan
    np.testing.assert_allclose(answered(found), wanted, atol=1e-5)
    assert [bool(one) for batch in found for one in batch.problems] == [
        row == BROKEN for row in range(len(IMAGES))
    ]


def test_large_views_come_in_smaller_batches(places: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("geoguesser.inference.batch_inference.count_cores", lambda: 2)
    for pixels, most in ((3 * 4 * 32**2, 3), (1, 1), (100 * 4 * 32**2, 10)):
        monkeypatch.setattr("geoguesser.inference.batch_inference.MAX_PIXELS_PER_CORE", pixels)
        found = predict_places(Ensemble([make_locator(0)]), find_places(str(places)), batch_size=20)
        assert max(len(one.rows) for one in found) == most


def test_on_an_accelerator_whole_batches_are_answered_one_after_the_other(places: Path):
    class Elsewhere(Ensemble):
        """Says that it lies on an accelerator."""

        device = torch.device("meta")

    found = list(predict_places(Elsewhere([make_locator(0)]), find_places(str(places)), batch_size=20))
    assert [len(one.rows) for one in found] == [20, len(IMAGES) - 20]
    alone = list(predict_places(Ensemble([make_locator(0)]), find_places(str(places)), batch_size=20))
    np.testing.assert_allclose(answered(found), answered(alone), atol=1e-5)


def test_each_core_runs_a_network_of_one_thread_and_the_threads_are_put_back(places: Path):
    ensemble, seen = Ensemble([make_locator(0)]), set()
    answer = ensemble.predict

    def looked(images, mask=None):
        seen.add((torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        return answer(images, mask)

    ensemble.predict = looked
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        for _ in predict_places(ensemble, find_places(str(places)), batch_size=8):
            break  # whoever listens may stop
        assert torch.get_num_threads() == before + 1
        list(predict_places(ensemble, find_places(str(places)), batch_size=8))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert seen == {(1, False)}


def test_what_goes_wrong_in_a_network_reaches_the_asker(places: Path):
    ensemble = Ensemble([make_locator(0)])

    def broken(images, mask=None):
        raise RuntimeError("out of memory")

    ensemble.predict = broken
    with pytest.raises(RuntimeError, match="out of memory"):
        list(predict_places(ensemble, find_places(str(places)), batch_size=4))
