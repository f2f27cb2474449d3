"""Batches: who asks at once is answered at once, by its own row, and by its own model."""

from __future__ import annotations

import asyncio
import threading
import time

import numpy as np
import pytest
import torch
from support.waiting import wait_until

from geoguesser.app.batching import Batcher
from geoguesser.inference.predictions import Predictions


class Echo:
    """An ensemble whose answer is the first pixel of each place; it writes down how it was asked."""

    def __init__(self, takes_s: float = 0.0, release: threading.Event | None = None) -> None:
        self.sizes: list[int] = []
        self.threads: set[str] = set()
        self.torch_threads: set[int] = set()
        self.takes_s = takes_s
        self.release = release

    def predict(self, images, mask) -> Predictions:
        self.sizes.append(len(mask))
        self.threads.add(threading.current_thread().name)
        self.torch_threads.add(torch.get_num_threads())
        time.sleep(self.takes_s)
        if self.release is not None:
            assert self.release.wait(60)
        first = images[0][:, 0, 0, 0, 0].double().numpy()
        assert len(images[0]) == len(mask)
        return Predictions(np.stack([first, first], axis=1), np.ones(len(mask), dtype=bool))


def ask(batcher: Batcher, ensemble: Echo, value: int, places: int = 1):
    views = torch.full((places, 4, 3, 2, 2), value, dtype=torch.uint8)
    return batcher.answer(ensemble, [views], torch.ones((places, 4), dtype=torch.bool))


def test_each_gets_its_own_row():
    echo = Echo(0.02)

    async def go() -> list[tuple[Predictions, int]]:
        async with Batcher(most=4, wait_s=0.05, threads=1) as batcher:
            found = await asyncio.gather(*(ask(batcher, echo, value) for value in range(10)))
            assert batcher.batches == len(echo.sizes)
            return found

    found = asyncio.run(go())
    assert [answers.coords_deg[row, 0] for answers, row in found] == list(range(10))
    assert echo.sizes == [4, 4, 2]
    assert len(echo.threads) == 1
    assert echo.torch_threads == {1}


def test_one_alone_waits_no_longer_than_it_must():
    echo = Echo()

    async def go() -> float:
        async with Batcher(most=8, wait_s=0.05, threads=1) as batcher:
            start = time.perf_counter()
            await ask(batcher, echo, 1)
            return time.perf_counter() - start

    assert 0.04 < asyncio.run(go()) < 1.0


def test_a_full_batch_does_not_wait():
    echo = Echo()

    async def go() -> None:
        async with Batcher(most=2, wait_s=60.0, threads=1) as batcher:
            await asyncio.wait_for(asyncio.gather(ask(batcher, echo, 1), ask(batcher, echo, 2)), 20)

    asyncio.run(go())
    assert echo.sizes == [2]


def test_places_of_a_request_stay_together_and_models_apart():
    one, other = Echo(), Echo()

    async def go() -> list[tuple[Predictions, int]]:
        async with Batcher(most=4, wait_s=0.05, threads=1) as batcher:
            return await asyncio.gather(
                ask(batcher, one, 1, 3), ask(batcher, other, 2), ask(batcher, one, 3, 2), ask(batcher, one, 4)
            )

    found = asyncio.run(go())
    assert one.sizes == [4, 2]  # three and the single one, which still fits, then two
    assert other.sizes == [1]
    assert [answers.coords_deg[row, 0] for answers, row in found] == [1, 2, 3, 4]


def test_a_mistake_reaches_those_who_asked_and_no_one_else():
    class Broken(Echo):
        def predict(self, images, mask) -> Predictions:
            raise RuntimeError("out of memory")

    async def go() -> None:
        async with Batcher(most=4, wait_s=0.0, threads=1) as batcher:
            with pytest.raises(RuntimeError, match="out of memory"):
                await ask(batcher, Broken(), 1)
            answers, row = await ask(batcher, Echo(), 7)
            assert answers.coords_deg[row, 0] == 7

    asyncio.run(go())


def test_who_has_given_up_is_not_worked_for():
    release = threading.Event()
    held = Echo(release=release)

    async def go() -> None:
        async with Batcher(most=1, wait_s=0.0, threads=1) as batcher:
            first = asyncio.ensure_future(ask(batcher, held, 1))
            await asyncio.to_thread(wait_until, lambda: held.sizes)
            second = asyncio.ensure_future(ask(batcher, held, 2))
            third = asyncio.ensure_future(ask(batcher, held, 3))

            # Both requests reach the queue before the second is cancelled.
            for _ in range(10):
                await asyncio.sleep(0)
            second.cancel()
            release.set()
            await asyncio.gather(first, third)

    asyncio.run(go())
    assert len(held.sizes) == 2
