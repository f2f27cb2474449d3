"""Outputs of an overconfident head with cells, drawn at random with true cells and errors."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoguesser.geo.distance import from_unit, haversine_km, to_unit
from geoguesser.model.uncertainty import HeadOutput, apply_temperature


def draw_logits(count: int, cells: int, temperature: float, seed: int) -> tuple[Any, Any]:
    """Draws logits, and cells from their softmax at a temperature."""
    random = np.random.default_rng(seed)
    logits = random.normal(0.0, 3.0, (count, cells))
    posterior = apply_temperature(logits, temperature)
    cell = (posterior.cumsum(axis=1) > random.random((count, 1))).argmax(axis=1)
    return logits, cell


def draw_output(count: int, cells: int, seed: int) -> tuple[HeadOutput, Any, Any]:
    """Draws the output for places of a small region, their true cells and errors."""
    random = np.random.default_rng(seed)
    points_deg = np.stack([random.uniform(44, 46, cells), random.uniform(14, 18, cells)], axis=-1)
    logits, cell = draw_logits(count, cells, 2.0, seed + 1)
    vectors = to_unit(points_deg)
    answers_deg = from_unit(apply_temperature(logits) @ vectors)
    true_deg = points_deg[cell] + random.uniform(-0.2, 0.2, (count, 2))
    output = HeadOutput(answers_deg, logits, vectors, np.full(cells, 40.0))
    return output, cell, haversine_km(answers_deg, true_deg)
