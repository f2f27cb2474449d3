"""Service: what all requests share: models, batcher, games, allowed root. Photos in, predictions out."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from geoguesser.app import uploads
from geoguesser.app.batching import Batcher
from geoguesser.app.game import Games
from geoguesser.app.limits import Limits
from geoguesser.app.problems import ProblemError
from geoguesser.app.registry import ServedModel
from geoguesser.app.responses import make_prediction
from geoguesser.app.schemas import FolderResponse, PlacePrediction, Prediction

NUM_DECODER_THREADS = 2  # threads that decode; more would only take the network's cores
T = TypeVar("T")


class Service:
    """Answers for the API. Use it in `async with`.

    Args:
        models: At least one, each under its name.
        limits: What is taken on.
        root: The folder whose places may be predicted, resolved; None for none.
        threads: Torch's threads for the network.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits, *, root: Path | None, threads: int) -> None:
        self.models = {model.name: model for model in models}
        self.limits, self.root = limits, root
        self.games = Games(limits.games)
        self._threads = threads
        self._folder = asyncio.Lock()  # one folder at a time, so that single photos need not wait for many
        self._batcher: Batcher
        self._decoders: ThreadPoolExecutor

    async def __aenter__(self) -> Self:
        self._decoders = ThreadPoolExecutor(NUM_DECODER_THREADS, "decoder")
        limits = self.limits
        batcher = Batcher(most=limits.batch, wait_s=limits.wait_ms / 1000, threads=self._threads)
        self._batcher = await batcher.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._batcher.__aexit__(*error)
        self._decoders.shutdown(wait=True)

    def model(self, name: str | None) -> ServedModel:
        """The model of a name; the first for none.

        Raises:
            ProblemError: 404, there is none of that name.
        """
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise ProblemError(404, f"model must be one of {', '.join(self.models)}.")
        return self.models[name]

    async def predict(self, model: ServedModel, photos: Sequence[bytes | None], *, areas: bool) -> Prediction:
        """Predicts one place from (4,) bytes by heading."""
        specs = model.ensemble.specs
        images, mask = await self.aside(lambda: uploads.read_views(photos, specs, self.limits))
        answers, row = await self._batcher.answer(model.ensemble, images, mask)
        views = [one is not None for one in photos]
        return await self.aside(lambda: make_prediction(model, answers, row, views, areas=areas))

    async def predict_folder(self, model: ServedModel, given: str) -> FolderResponse:
        """Predicts a place folder, or all place folders in one, inside the root.

        Raises:
            ProblemError: 404 without a root, or where the folder is none inside it; 422, 413.
        """
        root = self.root
        if root is None:
            raise ProblemError(404, "This server has no folders to predict: it was started without root=FOLDER.")
        folder = uploads.resolve_folder(root, given)
        folders = await self.aside(lambda: uploads.find_place_folders(root, folder, self.limits.places))
        places: list[PlacePrediction] = []
        async with self._folder:
            for start in range(0, len(folders), self.limits.batch):
                places += await self._some(root, model, folders[start : start + self.limits.batch])
        left_out = sum(one.prediction is None for one in places)
        return FolderResponse(model=model.name, places=places, left_out=left_out)

    async def _some(self, root: Path, model: ServedModel, folders: Sequence[Path]) -> list[PlacePrediction]:
        read = await self.aside(lambda: [self._read(root, model, folder) for folder in folders])
        whole = [one for one in read if not isinstance(one, str)]
        found: Iterator[Prediction] = iter(())
        if whole:
            images = [torch.cat(parts) for parts in zip(*(images for images, _ in whole), strict=True)]
            mask = torch.cat([mask for _, mask in whole])
            answers, first = await self._batcher.answer(model.ensemble, images, mask)
            found = (make_prediction(model, answers, first + at, row) for at, row in enumerate(mask.tolist()))
        return [
            PlacePrediction(place=folder.name, prediction=None, problem=one)
            if isinstance(one, str)
            else PlacePrediction(place=folder.name, prediction=next(found), problem=None)
            for folder, one in zip(folders, read, strict=True)
        ]

    def _read(self, root: Path, model: ServedModel, folder: Path) -> tuple[list[Tensor], Tensor] | str:
        """A place's views, or why there are none."""
        try:
            photos = uploads.read_place_photos(root, folder, self.limits)
            return uploads.read_views(photos, model.ensemble.specs, self.limits)
        except ProblemError as problem:
            return str(problem.detail)

    async def aside(self, work: Callable[[], T]) -> T:
        """Runs what takes a while in a thread of the decoders."""
        found: Any = await asyncio.get_running_loop().run_in_executor(self._decoders, work)
        return found
