"""Losses against their definition, written out in NumPy."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoguesser.errors import ConfigError
from geoguesser.model.losses import CrossEntropy

LOGITS = torch.tensor([[2.0, 0.5, -1.0], [0.0, 0.0, 3.0], [1.0, -2.0, 0.5]])
CELLS = torch.tensor([0, 1, 2])


def smoothed(share: float) -> float:
    logits = LOGITS.double().numpy()
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    targets = (1 - share) * np.eye(3)[CELLS.numpy()] + share / 3
    return float(-(targets * logs).sum(axis=1).mean())


@pytest.mark.parametrize("share", [0.0, 0.1, 0.9])
def test_label_smoothing_spreads_its_share_over_all_cells(share: float) -> None:
    assert float(CrossEntropy(label_smoothing=share)(LOGITS, {"cell": CELLS}, torch.zeros(3, 3))) == pytest.approx(
        smoothed(share), rel=1e-5
    )


def test_smoothing_changes_the_loss() -> None:
    assert smoothed(0.0) != pytest.approx(smoothed(0.1), rel=1e-3)


@pytest.mark.parametrize(
    ("share", "message"),
    [
        (1.0, "loss.label_smoothing must be below 1, got 1.0."),
        (1, "loss.label_smoothing must be below 1, got 1."),
        (-0.1, "loss.label_smoothing must be a number from 0 to 1, got -0.1."),
        (True, "loss.label_smoothing must be a number from 0 to 1, got True."),
        ("a", "loss.label_smoothing must be a number from 0 to 1, got 'a'."),
        (float("nan"), "loss.label_smoothing must be a number from 0 to 1, got nan."),
    ],
)
def test_wrong_shares_are_refused(share: object, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        CrossEntropy(label_smoothing=share)  # type: ignore[arg-type]
    assert str(caught.value) == message
