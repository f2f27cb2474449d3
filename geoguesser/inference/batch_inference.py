"""Answering: from places on disk to answers, in batches; reading goes on while the network works. No Hydra."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch

from geoguesser.data.checks.inspection import cores
from geoguesser.data.fingerprint import find_differing_parts
from geoguesser.data.store.reader import Store
from geoguesser.errors import CheckpointError
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.inputs import InputPlace, LoadedPlace, load_in_order
from geoguesser.inference.predictions import Predictions
from geoguesser.system.cpu import use_one_thread
from geoguesser.system.parallel import map_in_order

PIXELS_AT_ONCE = 32 * 112**2  # of the views that a network on one core takes: its layers then fit into the cache

IntArray = npt.NDArray[np.int64]
Item = TypeVar("Item")


class PredictedBatch(NamedTuple):
    """Some places, answered.

    Attributes:
        rows: (B,) their numbers among all.
        there: (B, 4) which of their views were seen.
        broken: (B,) what was wrong with each, by file.
        answers: Of those that had a view, in order; None where none had.
    """

    rows: IntArray
    there: npt.NDArray[np.bool_]
    broken: list[list[str]]
    answers: Predictions | None


def predict_places(
    ensemble: Ensemble, places: Sequence[InputPlace], *, batch_size: int
) -> Iterator[PredictedBatch]:
    """Reads places and answers, in order; what cannot be read is named and left unanswered.

    Args:
        ensemble: Who answers.
        places: What is asked.
        batch_size: How many places the networks take at once, on all cores together.
    """

    def batches(size: int) -> Iterator[tuple[int, list[LoadedPlace]]]:
        seen, start = load_in_order(places, ensemble.specs), 0
        while some := list(islice(seen, size)):
            yield start, some
            start += len(some)

    yield from _at_once(ensemble, batches, lambda item: _batch(ensemble, item[1], item[0]), batch_size)


def _batch(ensemble: Ensemble, some: list[LoadedPlace], start: int) -> PredictedBatch:
    there = np.stack([one.there for one in some])
    whole = np.flatnonzero(there.any(axis=1))
    answers = None
    if len(whole):
        images = [
            torch.from_numpy(np.stack([some[row].images[number] for row in whole]))
            for number in range(len(ensemble.specs))
        ]
        answers = ensemble.answer(images, torch.from_numpy(there[whole]))
    return PredictedBatch(np.arange(start, start + len(some)), there, [one.broken for one in some], answers)


def predict_store(
    ensemble: Ensemble, store: Store, rows: IntArray | None = None, *, batch_size: int
) -> Iterator[PredictedBatch]:
    """Answers for the places of a store, in order.

    Args:
        ensemble: Who answers.
        store: A prepared store; `check_store` says whether it fits.
        rows: (N,) of its table; None for all.
        batch_size: How many places the networks take at once, on all cores together.
    """
    wanted = np.arange(len(store.table())) if rows is None else rows
    masks, views = store.mask(), [store.views(spec) for spec in ensemble.specs]

    def batches(size: int) -> Iterator[IntArray]:
        return (np.arange(start, min(start + size, len(wanted))) for start in range(0, len(wanted), size))

    def answered(at: IntArray) -> PredictedBatch:
        some = wanted[at]
        there = masks[some]
        answers = ensemble.answer([one.gather(some) for one in views], torch.from_numpy(there))
        return PredictedBatch(at, there, [[] for _ in some], answers)

    yield from _at_once(ensemble, batches, answered, batch_size)


def _at_once(
    ensemble: Ensemble,
    batches: Callable[[int], Iterable[Item]],
    answered: Callable[[Item], PredictedBatch],
    batch_size: int,
) -> Iterator[PredictedBatch]:
    """Answers batches in order: on an accelerator one after the other, on a CPU one on each core.

    A network on two cores waits at each layer for the slower of them, more so while other threads decode;
    a network on each core waits for nobody, and is quickest with few places. benchmarks/predict_speed.py.
    """
    if ensemble.device.type != "cpu":
        yield from map(answered, batches(batch_size))
        return
    workers = min(cores(), batch_size)
    pixels = max(4 * spec.size**2 for spec in ensemble.specs)
    size = max(1, min(batch_size // workers, PIXELS_AT_ONCE // pixels))
    with use_one_thread():
        yield from map_in_order(answered, batches(size), threads=workers, ahead=workers, name="answer")


def check_store(ensemble: Ensemble, store: Store, key: str) -> None:
    """Refuses a store whose views were not prepared as those that the runs were trained on.

    Args:
        ensemble: Who shall answer.
        store: The store.
        key: Of the config, for the message.

    Raises:
        CheckpointError: Size, fit or decoder differ.
    """
    where = f"{key}={store.folder} cannot be predicted by this run"
    for locator in ensemble.locators:
        if locator.image.name not in store.manifest["images"]:
            held = " and ".join(store.manifest["images"])
            raise CheckpointError(
                f"{where}: size and fit of views differ ({locator.image.name} in the run, {held} in the store). "
                "Prepare that size too, or name images."
            )
        own = store.fingerprint(locator.image)
        if locator.data is not None and (found := find_differing_parts(locator.data, own, ("decoder",))):
            raise CheckpointError(
                f"{where}, for the store's views differ in {'; '.join(found)}. Prepare the store again with the "
                "run's versions, or name image folders."
            )
