"""Service behind the API: models, batching, games and the folders that may be predicted."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Self, TypeVar

import torch
from torch import Tensor

from geoguesser.app import uploads
from geoguesser.app.batching import Batcher
from geoguesser.app.decoders import Decoders, decode_picture
from geoguesser.app.game import Game, Games
from geoguesser.app.limits import Limits
from geoguesser.app.problems import ProblemError
from geoguesser.app.registry import ServedModel
from geoguesser.app.responses import make_prediction
from geoguesser.app.schemas import FolderResponse, PlacePrediction, Prediction
from geoguesser.arrays import ByteArray
from geoguesser.data.image_limits import MAX_PIXELS

# Further decoders would compete with the network for the cores.
NUM_DECODERS = 2
NUM_THREADS = 2
T = TypeVar("T")


class Service:
    """State shared by all requests, as an asynchronous context manager.

    Args:
        models: Models, at least one, with unique names. The first is the default.
        limits: Limits on requests.
        root: Resolved folder whose place folders may be predicted; None disables this.
        threads: Number of torch threads.
    """

    def __init__(self, models: Sequence[ServedModel], limits: Limits, *, root: Path | None, threads: int) -> None:
        self.models = {model.name: model for model in models}
        self.limits, self.root = limits, root
        self.games = Games(limits.games)
        self._batcher = Batcher(max_places=limits.batch, wait_s=limits.wait_ms / 1000, threads=threads)
        self._decoders = Decoders(
            NUM_DECODERS,
            max_s=limits.decode_s,
            max_pixels=min(limits.megapixels * 1e6, MAX_PIXELS),
            max_bytes=limits.upload_bytes,
        )
        # These threads wait for the decoders, so that other work has threads of its own.
        self._decoder_threads = ThreadPoolExecutor(NUM_DECODERS, "decoder")
        self._threads = ThreadPoolExecutor(NUM_THREADS, "worker")
        # One folder at a time, so that single places do not wait for several folders.
        self._folder_lock = asyncio.Lock()

    async def __aenter__(self) -> Self:
        await self._batcher.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self._batcher.__aexit__(*error)
        self._decoders.close()
        self._decoder_threads.shutdown(wait=True, cancel_futures=True)
        self._threads.shutdown(wait=True)

    def get_model(self, name: str | None) -> ServedModel:
        """Returns the model of the given name, or the default model for None; a 404 if there is none."""
        if name is None:
            return next(iter(self.models.values()))
        if name not in self.models:
            raise ProblemError(404, f"model must be one of {', '.join(self.models)}.")
        return self.models[name]

    async def predict(self, model: ServedModel, photos: Sequence[bytes | None], *, areas: bool) -> Prediction:
        """Predicts one place from its (4,) image files by heading, and the outlines of the sets if requested."""
        specs = model.ensemble.specs
        images, mask = await self._decode(lambda: uploads.read_views(photos, specs, self.limits, self._decoders))
        predictions, row = await self._batcher.predict(model.ensemble, images, mask)
        views = [photo is not None for photo in photos]
        return await self.run_in_thread(lambda: make_prediction(model, predictions, row, views, areas=areas))

    async def predict_folder(self, model: ServedModel, path: str) -> FolderResponse:
        """Predicts a place folder, or all place folders in a folder, given by its path relative to the root.

        Raises:
            ProblemError: 404 without a root or if the folder is not inside it, 413 for too many places, 422 if the
                folder cannot be read or holds no places.
        """
        root = self.root
        if root is None:
            raise ProblemError(404, "This server predicts no folders: it was started without root=FOLDER.")

        folder = uploads.resolve_folder(root, path)
        folders = await self.run_in_thread(lambda: uploads.find_place_folders(root, folder, self.limits.places))

        places: list[PlacePrediction] = []
        async with self._folder_lock:
            for start in range(0, len(folders), self.limits.batch):
                places += await self._predict_places(root, model, folders[start : start + self.limits.batch])

        left_out = sum(place.prediction is None for place in places)
        return FolderResponse(model=model.name, places=places, left_out=left_out)

    async def _predict_places(
        self, root: Path, model: ServedModel, folders: Sequence[Path]
    ) -> list[PlacePrediction]:
        views = [await self._decode(partial(self._read_place, root, model, folder)) for folder in folders]
        places = [
            PlacePrediction(
                place=uploads.show_name(folder), prediction=None, problem=view if isinstance(view, str) else None
            )
            for folder, view in zip(folders, views, strict=True)
        ]

        readable = [view for view in views if not isinstance(view, str)]
        if readable:
            images = [torch.cat(parts) for parts in zip(*(images for images, _ in readable), strict=True)]
            mask = torch.cat([mask for _, mask in readable])
            predictions, start = await self._batcher.predict(model.ensemble, images, mask)

            pending = (place for place in places if place.problem is None)
            for place, (row, present) in zip(pending, enumerate(mask.tolist(), start=start), strict=True):
                place.prediction = make_prediction(model, predictions, row, present)
        return places

    def _read_place(self, root: Path, model: ServedModel, folder: Path) -> tuple[list[Tensor], Tensor] | str:
        """Returns the images and mask of a place folder, or the reason why it cannot be read."""
        try:
            photos = uploads.read_place_photos(root, folder, self.limits)
            return uploads.read_views(photos, model.ensemble.specs, self.limits, self._decoders)
        except ProblemError as problem:
            return str(problem.detail)

    async def read_game_photo(self, game: Game, number: int, heading: int) -> bytes | None:
        """Returns a view of a round's place as JPEG; None if it is missing or the round has not begun."""

        def decode(data: bytes, max_px: int) -> ByteArray:
            return self._decoders.run(decode_picture, data, max_px)[0]

        return await self._decode(lambda: game.read_photo(number, heading, decode))

    async def _decode(self, work: Callable[[], T]) -> T:
        """Runs work that waits for a decoder in a thread."""
        result: Any = await asyncio.get_running_loop().run_in_executor(self._decoder_threads, work)
        return result

    async def run_in_thread(self, work: Callable[[], T]) -> T:
        """Runs slow work in a thread, so that the event loop stays responsive."""
        result: Any = await asyncio.get_running_loop().run_in_executor(self._threads, work)
        return result
