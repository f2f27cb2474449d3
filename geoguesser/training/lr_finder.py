"""Learning rate range test.

The rate rises exponentially from batch to batch, and the rate with the steepest fall of the smoothed loss is
chosen. The test trains a copy of the network, so that network, optimizer, order and random numbers of the run stay
as they are.

Source: L. N. Smith, arXiv 1506.01186.
"""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch

from geoguesser.arrays import FloatArray
from geoguesser.data.batches import Batch, FeatureBatch
from geoguesser.errors import GeoguesserError
from geoguesser.model.fusion import drop_views
from geoguesser.training.module import GeoLightningModule

MIN_RATE, MAX_RATE, MAX_STEPS = 1e-6, 1.0, 100
SMOOTHING = 0.9
DIVERGENCE_FACTOR = 4.0


@dataclass(frozen=True)
class RateSearch:
    """(S,) learning rates of the head and smoothed losses of a range test, and the rate chosen for the head.

    Other groups keep their ratio to the chosen rate.
    """

    rates: FloatArray
    losses: FloatArray
    chosen: float


def find_rate(
    module: GeoLightningModule, batches: Iterable[Batch | FeatureBatch], device: torch.device
) -> RateSearch:
    """Searches the base learning rate of the head, with training batches that are repeated if necessary."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        rates, losses = _raise_rate(module, batches, device)
    return RateSearch(rates, losses, find_steepest(rates, losses))


def find_steepest(rates: FloatArray, losses: FloatArray) -> float:
    """Returns the rate at which the loss falls fastest per logarithm of the rate, up to the minimum of the loss.

    Raises:
        GeoguesserError: The loss never falls.
    """
    # A numerical gradient needs three points.
    end = int(np.argmin(losses)) + 1 if len(losses) else 0
    if end < 3:
        raise GeoguesserError("lr_find found no rate at which the loss falls. Set lr_find=false and optimizer.lr.")
    slopes = np.gradient(losses[:end], np.log(rates[:end]))
    return float(rates[int(np.argmin(slopes))])


def _raise_rate(
    module: GeoLightningModule, batches: Iterable[Batch | FeatureBatch], device: torch.device
) -> tuple[FloatArray, FloatArray]:
    """Trains a copy of the network at a rising rate until the loss diverges; returns rates and smoothed losses."""
    network = copy.deepcopy(module.network).to(device)
    module.finetuning.apply(network, module.groups, 0)
    network.train()
    optimizer = module.optimizer_spec.make(network, module.groups)
    targets = {name: tensor.to(device) for name, tensor in module.targets.items()}
    ratios = [
        rate / module.base_rates[0] if group.unlock_epoch == 0 else 0.0
        for group, rate in zip(module.groups, module.base_rates, strict=True)
    ]

    rates, losses, average, lowest = [], [], 0.0, np.inf
    batches_again = itertools.chain.from_iterable(itertools.repeat(batches))
    for step, batch in zip(range(MAX_STEPS), batches_again, strict=False):
        rate = MIN_RATE * (MAX_RATE / MIN_RATE) ** (step / (MAX_STEPS - 1))
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            group["lr"] = rate * ratio

        # As in training: views are dropped, and the loss is that of the targets of these places.
        moved = type(batch)(*(part.to(device) for part in batch))
        view_dropout = network.fusion.view_dropout
        mask = drop_views(moved.mask, view_dropout, step) if view_dropout else moved.mask
        features = moved.features if isinstance(moved, FeatureBatch) else network.embed(moved.images, mask)
        target = {name: tensor[moved.index] for name, tensor in targets.items()}
        loss = network.head.loss(network.from_features(features, mask), target)

        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()

        # Exponential moving average from 0, divided by the sum of its weights to remove the bias of the start.
        average = SMOOTHING * average + (1 - SMOOTHING) * float(loss.detach())
        smooth = average / (1 - SMOOTHING ** (step + 1))
        if not np.isfinite(smooth) or smooth > DIVERGENCE_FACTOR * lowest:
            break
        lowest = min(lowest, smooth)
        rates.append(rate)
        losses.append(smooth)
    return np.array(rates), np.array(losses)
