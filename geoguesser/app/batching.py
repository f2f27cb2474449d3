"""Batching of requests: places that arrive at about the same time share a forward pass.

All forward passes run in one thread, below which torch has its own threads, so that concurrent requests do not
compete for the cores. Requests that arrive during a forward pass make the next batch.
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
    """Places of a request that wait for a forward pass.

    Attributes:
        ensemble: Ensemble that computes the predictions.
        images: (n, 4, 3, S, S) uint8 for each image spec of the ensemble.
        mask: (n, 4) bool, views present.
        future: Receives the predictions of a batch and the row of the first place.
    """

    ensemble: Ensemble
    images: list[Tensor]
    mask: Tensor
    future: asyncio.Future[tuple[Predictions, int]]


class Batcher:
    """Queue of requests in front of the networks.

    Args:
        max_places: Maximum number of places in a batch; the places of a request stay together.
        wait_s: Time that a batch waits for further places, in seconds.
        threads: Number of torch threads.

    Attributes:
        batches: Number of batches so far.
    """

    def __init__(self, *, max_places: int, wait_s: float, threads: int) -> None:
        self.max_places, self.wait_s = max_places, wait_s
        self.batches = 0
        # OpenMP keeps the number of threads per calling thread, so that it must be set in the thread itself.
        self._thread = ThreadPoolExecutor(1, "network", initializer=torch.set_num_threads, initargs=(threads,))
        self._queue: deque[PendingRequest] = deque()
        self._arrived = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._run())
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for request in self._queue:
            request.future.cancel()
        self._thread.shutdown(wait=True)

    async def predict(self, ensemble: Ensemble, images: Sequence[Tensor], mask: Tensor) -> tuple[Predictions, int]:
        """Predicts the places of a request in a batch with those of other requests.

        Args:
            ensemble: Ensemble that computes the predictions.
            images: (n, 4, 3, S, S) uint8 for each image spec of the ensemble.
            mask: (n, 4) bool, views present.

        Returns:
            Predictions of the batch, and the row of the first of these n places.
        """
        request = PendingRequest(ensemble, list(images), mask, asyncio.get_running_loop().create_future())
        self._queue.append(request)
        self._arrived.set()
        return await request.future

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._wait_for_batch()
            batch = self._take_batch()
            if not batch:
                continue

            try:
                predictions = await loop.run_in_executor(self._thread, _predict_batch, batch)
            except Exception as error:
                # Every error is passed on: a request without a result would wait until its time limit.
                for request in batch:
                    if not request.future.done():
                        request.future.set_exception(error)
                continue

            self.batches += 1
            row = 0
            for request in batch:
                if not request.future.done():
                    request.future.set_result((predictions, row))
                row += len(request.mask)

    async def _wait_for_batch(self) -> None:
        """Returns as soon as a batch is full, or `wait_s` after the first request if it is not."""
        while not self._queue:
            self._arrived.clear()
            await self._arrived.wait()

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(self.wait_s):
                while sum(len(request.mask) for request in self._queue) < self.max_places:
                    self._arrived.clear()
                    await self._arrived.wait()

    def _take_batch(self) -> list[PendingRequest]:
        """Removes the first request and later ones for the same ensemble from the queue, as far as they fit."""
        batch: list[PendingRequest] = []
        later: list[PendingRequest] = []
        places = 0
        while self._queue:
            request = self._queue.popleft()
            # The client has disconnected, or its time is up.
            if request.future.done():
                continue

            size = len(request.mask)
            if not batch or (request.ensemble is batch[0].ensemble and places + size <= self.max_places):
                batch.append(request)
                places += size
            else:
                later.append(request)

        self._queue.extend(later)
        return batch


def _predict_batch(batch: list[PendingRequest]) -> Predictions:
    images = [torch.cat(parts) for parts in zip(*(request.images for request in batch), strict=True)]
    return batch[0].ensemble.predict(images, torch.cat([request.mask for request in batch]))
