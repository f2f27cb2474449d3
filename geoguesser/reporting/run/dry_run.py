"""dry_run=true: counts, parameters, memory and time of a run, without training anything."""

from __future__ import annotations

import copy
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table

from geoguesser.data.datamodule import PlacesData
from geoguesser.model.network import GeoNetwork
from geoguesser.reporting.run.result import count_places
from geoguesser.training.finetuning import Finetuning

TRIAL_PLACES = 8
HEAD_STEP_S = 0.006  # of a step on cached features, a rough guess for two cores: Lightning's loop included


def print_dry_run(
    network: GeoNetwork, data: PlacesData, finetuning: Finetuning, trainer: dict[str, Any]
) -> dict[str, Any]:
    """Prints and returns what a run would be.

    Times are for this machine's CPU, from one forward (and backward) of eight places of noise.

    Args:
        network: The network, which stays as it is.
        data: Its table is read; no image is.
        finetuning: Says whether views are embedded once.
        trainer: The trainer's config.
    """
    counts = count_places(data)
    cached = finetuning.embeds_once(data.augment)
    forward, both = _seconds_per_place(network, data.image.size, learns=not cached)
    epochs = int(trainer["max_epochs"])
    if cached:
        steps = -(-counts["train"] // data.feature_batch_size)
        seconds = counts["places"] * forward + epochs * steps * HEAD_STEP_S
    else:
        seconds = epochs * (counts["train"] * both + counts["val"] * forward) + counts["test"] * forward
    learnt = sum(parameter.numel() for parameter in network.parameters())
    head = sum(p.numel() for name, p in network.named_parameters() if not name.startswith("backbone."))
    view_bytes = counts["places"] * 4 * 3 * data.image.size**2
    weights = learnt * 4 + (head if cached else learnt) * 12  # gradients and Adam's two means
    grid = network.head.grid
    facts = {
        "places": counts,
        "cells": None
        if grid is None
        else {"touch_land": len(grid.touching), "hold_training_places": grid.num_cells},
        "parameters": {"total": learnt, "head": head},
        "memory_gib": {
            "weights_and_optimizer": round(weights / 2**30, 3),
            "views": round(min(view_bytes / 2**30, data.memory_gib), 3),
        },
        "views_embedded_once": cached,
        "at_most_epochs": epochs,
        "estimated_minutes_on_this_cpu": round(seconds / 60, 2),
    }
    table = Table(title="Dry run: nothing is trained", title_justify="left", show_header=False)
    for key, value in facts.items():
        shown = ", ".join(f"{k} {v}" for k, v in value.items()) if isinstance(value, dict) else str(value)
        table.add_row(key.replace("_", " "), shown)
    Console(soft_wrap=True, highlight=False).print(table)
    return facts


def _seconds_per_place(network: GeoNetwork, size: int, *, learns: bool) -> tuple[float, float]:
    """Seconds of a forward, and of a forward and backward, for one place."""
    trial = copy.deepcopy(network).eval()
    for parameter in trial.parameters():
        parameter.requires_grad_(True)
    images = torch.randint(0, 256, (TRIAL_PLACES, 4, 3, size, size), dtype=torch.uint8)
    mask = torch.ones(TRIAL_PLACES, 4, dtype=torch.bool)
    with torch.no_grad():
        trial(images, mask)  # the first call allocates
        start = time.perf_counter()
        trial(images, mask)
    forward = time.perf_counter() - start
    both = 3.0 * forward
    if learns:
        start = time.perf_counter()
        trial(images, mask).sum().backward()
        both = time.perf_counter() - start
    return forward / TRIAL_PLACES, both / TRIAL_PLACES
