"""Batch inference: predictions in order for any batch size and number of cores."""

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
    """Folders of Toyland's places with lossless views; the files of one place are no images."""
    for number, views in enumerate(IMAGES.numpy()):
        folder = tmp_path / f"{number:03d}"
        folder.mkdir()
        for heading, view in zip((0, 90, 180, 270), views, strict=True):
            Image.fromarray(view.transpose(1, 2, 0)).save(folder / f"{heading}.png")
    for heading in (0, 90, 180, 270):
        (tmp_path / f"{BROKEN:03d}" / f"{heading}.png").write_bytes(b"no picture")
    return tmp_path


def join(batches: list[PredictedBatch]) -> np.ndarray:
    """Returns the coordinates of all rows; NaN for places without a view."""
    coords_deg = np.full((sum(len(batch.rows) for batch in batches), 2), np.nan)
    for batch in batches:
        if batch.predictions is not None:
            coords_deg[batch.rows[batch.present.any(axis=1)]] = batch.predictions.coords_deg
    return coords_deg


@pytest.mark.parametrize("batch_size", [1, 2, 7, 64])
@pytest.mark.parametrize("count", [1, 3])
def test_places_are_predicted_in_order_on_any_number_of_cores(
    places: Path, batch_size: int, count: int, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("geoguesser.inference.batch_inference.count_cores", lambda: count)
    ensemble = Ensemble([make_locator(0)])
    batches = list(predict_places(ensemble, find_places(str(places)), batch_size=batch_size))
    np.testing.assert_array_equal(np.concatenate([batch.rows for batch in batches]), np.arange(len(IMAGES)))
    assert max(len(batch.rows) for batch in batches) <= batch_size

    expected = ensemble.predict([IMAGES]).coords_deg
    expected[BROKEN] = np.nan
    np.testing.assert_allclose(join(batches), expected, atol=1e-5)
    problems = [problems for batch in batches for problems in batch.problems]
    assert [row for row, lines in enumerate(problems) if lines] == [BROKEN]


def test_large_views_come_in_smaller_batches(places: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("geoguesser.inference.batch_inference.count_cores", lambda: 2)
    for pixels, max_places in ((3 * 4 * 32**2, 3), (1, 1), (100 * 4 * 32**2, 10)):
        monkeypatch.setattr("geoguesser.inference.batch_inference.MAX_PIXELS_PER_CORE", pixels)
        batches = predict_places(Ensemble([make_locator(0)]), find_places(str(places)), batch_size=20)
        assert max(len(batch.rows) for batch in batches) == max_places


def test_an_accelerator_predicts_complete_batches_in_sequence(places: Path):
    class AcceleratedEnsemble(Ensemble):
        """Ensemble that reports the device of an accelerator."""

        device = torch.device("meta")

    on_device, on_cpu = (
        list(predict_places(kind([make_locator(0)]), find_places(str(places)), batch_size=20))
        for kind in (AcceleratedEnsemble, Ensemble)
    )
    assert [len(batch.rows) for batch in on_device] == [20, len(IMAGES) - 20]
    np.testing.assert_allclose(join(on_device), join(on_cpu), atol=1e-5)


def test_each_core_runs_a_network_on_one_thread_and_the_number_is_restored(places: Path):
    ensemble, calls = Ensemble([make_locator(0)]), set()
    predict = ensemble.predict

    def record(images, mask=None):
        calls.add((torch.get_num_threads(), threading.current_thread() is threading.main_thread()))
        return predict(images, mask)

    ensemble.predict = record
    before = torch.get_num_threads()
    torch.set_num_threads(before + 1)
    try:
        for _ in predict_places(ensemble, find_places(str(places)), batch_size=8):
            # The caller may stop early.
            break
        assert torch.get_num_threads() == before + 1
        list(predict_places(ensemble, find_places(str(places)), batch_size=8))
        assert torch.get_num_threads() == before + 1
    finally:
        torch.set_num_threads(before)
    assert calls == {(1, False)}


def test_errors_of_a_network_reach_the_caller(places: Path):
    ensemble = Ensemble([make_locator(0)])

    def fail(images, mask=None):
        raise RuntimeError("out of memory")

    ensemble.predict = fail
    with pytest.raises(RuntimeError, match="out of memory"):
        list(predict_places(ensemble, find_places(str(places)), batch_size=4))
