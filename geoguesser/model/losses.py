"""Losses of classification heads: logits over cells against the true cell."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor
from torch.nn import functional

from geoguesser.errors import ConfigError, check_number


class CellLoss(ABC):
    """A loss of logits over cells."""

    @abstractmethod
    def __call__(self, logits: Tensor, cells: Tensor) -> Tensor:
        """(B, K) logits and (B,) true cells -> the batch's mean loss, a scalar."""


class CrossEntropy(CellLoss):
    """Cross entropy against the true cell.

    Args:
        label_smoothing: The share of the target that is spread evenly over all cells, from 0 to below 1.

    Raises:
        ConfigError: The share is out of range.
    """

    def __init__(self, *, label_smoothing: float = 0.0) -> None:
        self.label_smoothing = check_number("loss.label_smoothing", label_smoothing, low=0.0, high=1.0)
        if self.label_smoothing == 1.0:
            raise ConfigError.at("loss.label_smoothing", "must be below 1", found=label_smoothing)

    def __call__(self, logits: Tensor, cells: Tensor) -> Tensor:
        return functional.cross_entropy(logits, cells, label_smoothing=self.label_smoothing)
