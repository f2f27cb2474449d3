"""Batching: requests that come at about the same time go through the network together, in one thread.

The network has one thread of its own, and torch as many under it as it is told: so two requests never fight for
the cores. While a batch is at work, what arrives waits and makes the next one.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import NamedTuple, Self

import torch
from torch import Tensor

from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.predictions import Predictions


class PendingRequest(NamedTuple):
    """Places of one request: for each of the ensemble's specs (n, 4, 3, S, S) uint8, and the (n, 4) mask."""

    ensemble: Ensemble
    images: list[Tensor]
    mask: Tensor
    answered: asyncio.Future[tuple[Predictions, int]]


class Batcher:
    """Collects what is asked, answers it in batches.

    Args:
        most: Places in a batch; a request's places are never divided.
        wait_s: How long a batch waits for further places.
        threads: Torch's threads for the network.

    Attributes:
        batches: How many have gone through the network.
    """

    def __init__(self, *, most: int, wait_s: float, threads: int) -> None:
        self.most, self.wait_s = most, wait_s
        self.batches = 0
        # OpenMP counts threads per thread that calls it, so it is told there
        self._thread = ThreadPoolExecutor(1, "network", initializer=torch.set_num_threads, initargs=(threads,))
        self._waiting: deque[PendingRequest] = deque()
        self._arrived = asyncio.Event()
        self._work: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._work = asyncio.create_task(self._go_on())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._work is not None:
            self._work.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._work
        for one in self._waiting:
            one.answered.cancel()
        self._thread.shutdown(wait=True)

    async def answer(self, ensemble: Ensemble, images: Sequence[Tensor], mask: Tensor) -> tuple[Predictions, int]:
        """What the network says.

        Args:
            ensemble: Which.
            images: For each of its specs (n, 4, 3, S, S) uint8.
            mask: (n, 4) bool.

        Returns:
            The answers of a batch, and the row of the first of these n places in it.
        """
        asked = PendingRequest(ensemble, list(images), mask, asyncio.get_running_loop().create_future())
        self._waiting.append(asked)
        self._arrived.set()
        return await asked.answered

    async def _go_on(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._some()
            batch = self._next_batch()
            if not batch:
                continue
            try:
                answers = await loop.run_in_executor(self._thread, _through, batch)
            except Exception as error:  # whatever it is, those who asked must hear of it
                for one in batch:
                    if not one.answered.done():
                        one.answered.set_exception(error)
                continue
            self.batches += 1
            row = 0
            for one in batch:
                if not one.answered.done():
                    one.answered.set_result((answers, row))
                row += len(one.mask)

    async def _some(self) -> None:
        """Returns when there is something to do: a full batch at once, less after a short wait."""
        while not self._waiting:
            self._arrived.clear()
            await self._arrived.wait()
        end = asyncio.get_running_loop().time() + self.wait_s
        while sum(len(one.mask) for one in self._waiting) < self.most:
            self._arrived.clear()
            left = end - asyncio.get_running_loop().time()
            if left <= 0:
                return
            try:
                await asyncio.wait_for(self._arrived.wait(), left)
            except TimeoutError:
                return

    def _next_batch(self) -> list[PendingRequest]:
        """The first in the queue and those after it for the same network; who has given up is left out."""
        batch: list[PendingRequest] = []
        later: list[PendingRequest] = []
        places = 0
        while self._waiting:
            one = self._waiting.popleft()
            if one.answered.done():
                continue
            fits = not batch or (one.ensemble is batch[0].ensemble and places + len(one.mask) <= self.most)
            if fits:
                batch.append(one)
                places += len(one.mask)
            else:
                later.append(one)
        self._waiting.extend(later)
        return batch


def _through(batch: list[PendingRequest]) -> Predictions:
    images = [torch.cat(parts) for parts in zip(*(one.images for one in batch), strict=True)]
    return batch[0].ensemble.predict(images, torch.cat([one.mask for one in batch]))
