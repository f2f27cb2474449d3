"""Tests of batching: each request gets its own rows, from its own model, without needless waiting."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Coroutine
from typing import Any

import numpy as np
import pytest
import torch
from support.waiting import wait_until

from geoguesser.app.batching import Batcher
from geoguesser.inference.predictions import Predictions


class Echo:
    """Ensemble that predicts the first pixel of each place and records its calls."""

    def __init__(self, release: threading.Event | None = None) -> None:
        self.sizes: list[int] = []
        self.threads: set[tuple[str, int]] = set()
        self.release = release

    def predict(self, images, mask) -> Predictions:
        self.sizes.append(len(mask))
        self.threads.add((threading.current_thread().name, torch.get_num_threads()))
        if self.release is not None:
            assert self.release.wait(60)
        pixels = images[0][:, 0, 0, 0, 0].double().numpy()
        assert len(pixels) == len(mask)
        return Predictions(np.stack([pixels, pixels], axis=1), np.ones(len(mask), dtype=bool))


async def predict(batcher: Batcher, ensemble: Any, value: int, places: int = 1) -> float:
    """Predicts places whose pixels have the given value, and returns the prediction of the first one."""
    images = torch.full((places, 4, 3, 2, 2), value, dtype=torch.uint8)
    predictions, row = await batcher.predict(ensemble, [images], torch.ones((places, 4), dtype=torch.bool))
    return float(predictions.coords_deg[row, 0])


def run(work: Callable[[Batcher], Coroutine[Any, Any, Any]], *, max_places: int, wait_s: float) -> Any:
    """Runs work with a batcher."""

    async def run_async() -> Any:
        async with Batcher(max_places=max_places, wait_s=wait_s, threads=1) as batcher:
            return await asyncio.wait_for(work(batcher), 20)

    return asyncio.run(run_async())


def test_each_request_gets_its_own_row():
    echo = Echo()

    async def work(batcher: Batcher) -> list[float]:
        values = await asyncio.gather(*(predict(batcher, echo, value) for value in range(10)))
        assert batcher.batches == len(echo.sizes)
        return values

    assert run(work, max_places=4, wait_s=0.05) == list(range(10))
    assert echo.sizes == [4, 4, 2]
    ((_, torch_threads),) = echo.threads
    assert torch_threads == 1


def test_a_single_request_waits_for_others():
    async def work(batcher: Batcher) -> float:
        start_s = time.perf_counter()
        await predict(batcher, Echo(), 1)
        return time.perf_counter() - start_s

    assert 0.04 < run(work, max_places=8, wait_s=0.05) < 1.0


def test_a_full_batch_does_not_wait():
    echo = Echo()
    run(lambda batcher: asyncio.gather(*(predict(batcher, echo, i) for i in range(2))), max_places=2, wait_s=60)
    assert echo.sizes == [2]


def test_places_of_a_request_stay_together_and_models_apart():
    first, second = Echo(), Echo()

    async def work(batcher: Batcher) -> list[float]:
        return await asyncio.gather(
            predict(batcher, first, 1, 3),
            predict(batcher, second, 2),
            predict(batcher, first, 3, 2),
            predict(batcher, first, 4),
        )

    assert run(work, max_places=4, wait_s=0.05) == [1, 2, 3, 4]
    # The single place fits into the batch of the three places, the two places do not.
    assert first.sizes == [4, 2]
    assert second.sizes == [1]


def test_an_error_reaches_only_the_requests_of_its_batch():
    class Broken(Echo):
        def predict(self, images, mask) -> Predictions:
            raise RuntimeError("out of memory")

    async def work(batcher: Batcher) -> float:
        with pytest.raises(RuntimeError, match="out of memory"):
            await predict(batcher, Broken(), 1)
        return await predict(batcher, Echo(), 7)

    assert run(work, max_places=4, wait_s=0.0) == 7


def test_cancelled_requests_are_skipped():
    release = threading.Event()
    echo = Echo(release)

    async def work(batcher: Batcher) -> None:
        first = asyncio.ensure_future(predict(batcher, echo, 1))
        await asyncio.to_thread(wait_until, lambda: echo.sizes)
        second, third = (asyncio.ensure_future(predict(batcher, echo, value)) for value in (2, 3))

        # Both requests reach the queue before the second is cancelled.
        for _ in range(10):
            await asyncio.sleep(0)
        second.cancel()
        release.set()
        await asyncio.gather(first, third)

    run(work, max_places=1, wait_s=0.0)
    assert len(echo.sizes) == 2
