"""Dry run: counts, parameters, memory and time of a training run, without training."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from rich.table import Table

from geoguesser.data.datamodule import PlacesData
from geoguesser.model.network import GeoNetwork
from geoguesser.reporting.run.result import count_places
from geoguesser.reporting.terminal import TextConsole
from geoguesser.training.finetuning import Finetuning

# Places in the batch that is timed.
TRIAL_PLACES = 8

# Time of a training step on cached features on two cores, including Lightning's loop; a rough estimate.
HEAD_STEP_S = 0.006


def print_dry_run(
    network: GeoNetwork, data: PlacesData, finetuning: Finetuning, trainer: dict[str, Any]
) -> dict[str, Any]:
    """Prints and returns the size and the estimated time of a run; no image is read.

    Times are those of this machine's CPU, measured by one forward and backward pass over eight places of noise.
    """
    counts = count_places(data)
    epochs = int(trainer["max_epochs"])

    # With a frozen backbone and without augmentation, features are computed once and cached.
    is_cached = finetuning.embeds_once(data.augment)
    forward_s, step_s = _measure_seconds_per_place(network, data.image.size, trains=not is_cached)
    seconds = epochs * (counts["train"] * step_s + counts["val"] * forward_s) + counts["test"] * forward_s
    if is_cached:
        steps = -(-counts["train"] // data.feature_batch_size)
        seconds = counts["places"] * forward_s + epochs * steps * HEAD_STEP_S

    total = sum(parameter.numel() for parameter in network.parameters())
    num_without_backbone = total - sum(parameter.numel() for parameter in network.backbone.parameters())
    # Four bytes per weight; trained weights also have a gradient and Adam's two moments.
    weights = total * 4 + (num_without_backbone if is_cached else total) * 12
    # Four views of three bytes per pixel. Views beyond `memory_gib` are read from the disk.
    view_bytes = counts["places"] * 4 * 3 * data.image.size**2

    grid = network.head.grid
    facts = {
        "places": counts,
        "cells": None if grid is None else {"on_land": len(grid.touching), "with_training_places": grid.num_cells},
        "parameters": {"total": total, "without_backbone": num_without_backbone},
        "memory_gib": {
            "weights_and_optimizer": round(weights / 2**30, 3),
            "views": round(min(view_bytes / 2**30, data.memory_gib), 3),
        },
        "features_computed_once": is_cached,
        "max_epochs": epochs,
        "estimated_minutes_on_this_cpu": round(seconds / 60, 2),
    }

    table = Table(title="Dry run: nothing is trained", title_justify="left", show_header=False)
    for key, value in facts.items():
        text = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(key.replace("_", " "), text)
    TextConsole().print(table)
    return facts


def _measure_seconds_per_place(network: GeoNetwork, size: int, *, trains: bool) -> tuple[float, float]:
    """Measures a forward pass and, if the backbone is trained, a training step; otherwise the step is 0."""
    trial = copy.deepcopy(network).eval()

    # As in fine-tuning of all layers, the most expensive case.
    for parameter in trial.parameters():
        parameter.requires_grad_(True)

    images = torch.randint(0, 256, (TRIAL_PLACES, 4, 3, size, size), dtype=torch.uint8)
    mask = torch.ones(TRIAL_PLACES, 4, dtype=torch.bool)
    with torch.no_grad():
        # The first call allocates memory.
        trial(images, mask)
        start = time.perf_counter()
        trial(images, mask)
    forward_s = time.perf_counter() - start

    step_s = 0.0
    if trains:
        start = time.perf_counter()
        trial(images, mask).sum().backward()
        step_s = time.perf_counter() - start
    return forward_s / TRIAL_PLACES, step_s / TRIAL_PLACES
