"""Prediction of many places in batches: files are read while the networks compute. No Hydra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import torch

from geoguesser.arrays import BoolArray, IntArray
from geoguesser.data.fingerprint import find_differing_parts
from geoguesser.data.store.reader import Store
from geoguesser.errors import CheckpointError
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.inputs import InputPlace, LoadedPlace, load_in_order
from geoguesser.inference.predictions import Predictions
from geoguesser.system.cpu import count_cores, use_one_thread
from geoguesser.system.parallel import map_in_order

# Pixels of the views in a batch on one core, so that the activations of a layer fit into the core's cache.
MAX_PIXELS_PER_CORE = 32 * 112**2

Item = TypeVar("Item")


class PredictedBatch(NamedTuple):
    """Predictions for a batch of places.

    Attributes:
        rows: (B,) positions of the places among all.
        present: (B, 4) true for views that were used.
        problems: (B,) problems of each place, by file.
        predictions: Predictions for the places that have a view, in order; None if no place has one.
    """

    rows: IntArray
    present: BoolArray
    problems: list[list[str]]
    predictions: Predictions | None


def predict_places(
    ensemble: Ensemble, places: Sequence[InputPlace], *, batch_size: int
) -> Iterator[PredictedBatch]:
    """Reads places and yields predictions, in order. Unreadable views are reported and not used.

    The networks process `batch_size` places at once, on all cores together.
    """

    def make_batches(size: int) -> Iterator[tuple[int, list[LoadedPlace]]]:
        loaded, start = load_in_order(places, ensemble.specs), 0
        while batch := list(islice(loaded, size)):
            yield start, batch
            start += len(batch)

    def predict(batch: tuple[int, list[LoadedPlace]]) -> PredictedBatch:
        start, loaded = batch
        present = np.stack([place.present for place in loaded])
        usable = np.flatnonzero(present.any(axis=1))

        predictions = None
        if len(usable):
            views = zip(*(loaded[row].images for row in usable), strict=True)
            images = [torch.from_numpy(np.stack(of_spec)) for of_spec in views]
            predictions = ensemble.predict(images, torch.from_numpy(present[usable]))

        rows = np.arange(start, start + len(loaded))
        return PredictedBatch(rows, present, [place.problems for place in loaded], predictions)

    yield from _map_batches(ensemble, make_batches, predict, batch_size)


def predict_store(
    ensemble: Ensemble, store: Store, rows: IntArray | None = None, *, batch_size: int
) -> Iterator[PredictedBatch]:
    """Yields predictions for the places of a store that passes `check_store`, in order of `rows`; None for all."""
    selected = np.arange(len(store.table())) if rows is None else rows
    masks, views = store.mask(), [store.views(spec) for spec in ensemble.specs]

    def make_batches(size: int) -> Iterator[IntArray]:
        return (np.arange(start, min(start + size, len(selected))) for start in range(0, len(selected), size))

    def predict(positions: IntArray) -> PredictedBatch:
        batch = selected[positions]
        present = masks[batch]
        predictions = ensemble.predict([images.gather(batch) for images in views], torch.from_numpy(present))
        return PredictedBatch(positions, present, [[] for _ in batch], predictions)

    yield from _map_batches(ensemble, make_batches, predict, batch_size)


def _map_batches(
    ensemble: Ensemble,
    make_batches: Callable[[int], Iterable[Item]],
    predict: Callable[[Item], PredictedBatch],
    batch_size: int,
) -> Iterator[PredictedBatch]:
    """Predicts batches in order: on an accelerator one after the other, on a CPU one per core in parallel.

    A network on two cores waits at each layer for the slower core, the more so while other threads decode images.
    A network per core does not wait, and is fastest with few places (benchmarks/predict_speed.py).
    """
    if ensemble.device.type != "cpu":
        yield from map(predict, make_batches(batch_size))
        return

    workers = min(count_cores(), batch_size)
    pixels = max(4 * spec.size**2 for spec in ensemble.specs)
    size = max(1, min(batch_size // workers, MAX_PIXELS_PER_CORE // pixels))
    with use_one_thread():
        yield from map_in_order(predict, make_batches(size), threads=workers, ahead=workers, name="predict")


def check_store(ensemble: Ensemble, store: Store, key: str) -> None:
    """Raises CheckpointError unless size, fit and image decoder of a store are those of the training views."""
    where = f"{key}={store.folder} cannot be predicted by this run"
    for predictor in ensemble.predictors:
        name = predictor.image.name
        if name not in store.manifest["images"]:
            available = " and ".join(store.manifest["images"])
            raise CheckpointError(
                f"{where}: size and fit of views differ ({name} in the run, {available} in the store). "
                "Prepare that size too, or name images."
            )

        fingerprint = store.fingerprint(predictor.image)
        recorded = predictor.data
        if recorded is not None and (differing := find_differing_parts(recorded, fingerprint, ("decoder",))):
            raise CheckpointError(
                f"{where}, because the store's views differ in {'; '.join(differing)}. Prepare the store again "
                "with the run's versions, or name image folders."
            )
