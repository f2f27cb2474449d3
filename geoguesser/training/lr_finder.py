"""Learning-rate range test, on a copy: the run's own network, optimizer, order and random numbers are not touched.

Source: L. N. Smith, arXiv 1506.01186. The rate is raised exponentially batch by batch; the one with
the steepest fall of the smoothed loss is taken.
"""

from __future__ import annotations

import copy
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
    """What a range test found.

    Attributes:
        rates: (S,) the head's rate of each step.
        losses: (S,) smoothed training losses.
        chosen: The rate taken for the head; other groups keep their ratio to it.
    """

    rates: FloatArray
    losses: FloatArray
    chosen: float


def find_rate(
    module: GeoLightningModule, batches: Iterable[Batch | FeatureBatch], device: torch.device
) -> RateSearch:
    """Searches the head's base rate.

    Args:
        module: Its network and optimizer settings are copied.
        batches: Training batches; they are gone through again where they are fewer than the steps.
        device: Where to run.

    Returns:
        The rates tried, the losses and the rate taken.

    Raises:
        GeoguesserError: The loss never fell.
    """
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        return _search(module, batches, device)


def _search(
    module: GeoLightningModule, batches: Iterable[Batch | FeatureBatch], device: torch.device
) -> RateSearch:
    network = copy.deepcopy(module.network).to(device)
    groups = module.groups
    module.finetuning.apply(network, groups, 0)
    network.train()
    optimizer = module.optimizer_spec.make(network, groups)
    open_now = [group.unlock_epoch == 0 for group in groups]
    ratios = [
        rate / module.base_rates[0] if now else 0.0 for rate, now in zip(module.base_rates, open_now, strict=True)
    ]
    targets = {name: tensor.to(device) for name, tensor in module.targets.items()}
    rates, losses, average, best = [], [], 0.0, np.inf
    for step, batch in zip(range(MAX_STEPS), _forever(batches), strict=False):
        rate = MIN_RATE * (MAX_RATE / MIN_RATE) ** (step / (MAX_STEPS - 1))
        for group, ratio in zip(optimizer.param_groups, ratios, strict=True):
            group["lr"] = rate * ratio
        moved = type(batch)(*(part.to(device) for part in batch))
        share = network.fusion.view_dropout
        mask = drop_views(moved.mask, share, step) if share else moved.mask  # as training does
        features = moved.features if isinstance(moved, FeatureBatch) else network.embed(moved.images, mask)
        target = {name: tensor[moved.index] for name, tensor in targets.items()}
        loss = network.head.loss(network.from_features(features, mask), target)
        optimizer.zero_grad()
        torch.autograd.backward(loss)
        optimizer.step()
        average = SMOOTHING * average + (1 - SMOOTHING) * float(loss.detach())
        smooth = average / (1 - SMOOTHING ** (step + 1))
        if not np.isfinite(smooth) or smooth > DIVERGENCE_FACTOR * best:
            break
        best = min(best, smooth)
        rates.append(rate)
        losses.append(smooth)
    return RateSearch(np.array(rates), np.array(losses), find_steepest(np.array(rates), np.array(losses)))


def find_steepest(rates: FloatArray, losses: FloatArray) -> float:
    """The rate at which the loss falls fastest per factor of the rate, up to the loss's minimum.

    Raises:
        GeoguesserError: The loss never fell.
    """
    last = int(np.argmin(losses)) + 1 if len(losses) else 0
    if last < 3:
        raise GeoguesserError("lr_find found no rate at which the loss falls. Set lr_find=false and optimizer.lr.")
    slopes = np.gradient(losses[:last], np.log(rates[:last]))
    return float(rates[int(np.argmin(slopes))])


def _forever(batches: Iterable[Batch | FeatureBatch]) -> Iterable[Batch | FeatureBatch]:
    while True:
        yield from batches
