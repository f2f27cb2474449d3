"""Schedules: by what the base rate is multiplied, as a function of how far a parameter group has come.

A group's clock starts when it is unlocked. All but the plateau are pure functions of that clock, so a
resumed run has the same rates; the plateau keeps the steps at which it fell.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from geoguesser.errors import ConfigError, check_int, check_number


@dataclass(frozen=True)
class ScheduleProgress:
    """How far a parameter group has come.

    Attributes:
        step: Optimizer steps since it was unlocked.
        total_steps: Optimizer steps from its unlocking to the end of training.
        steps_per_epoch: Optimizer steps of one epoch.
        unlock_step: The run's step at which it was unlocked.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    unlock_step: int = 0


class Schedule(ABC):
    """A factor of the base rate.

    Args:
        warmup_epochs: Over so many epochs the factor rises linearly from 0 to 1; each group has its own
            warm-up when it is unlocked. A fraction is allowed.
    """

    def __init__(self, *, warmup_epochs: float = 0.0) -> None:
        self.warmup_epochs = check_number("schedule.warmup_epochs", warmup_epochs, low=0.0)

    def factor(self, progress: ScheduleProgress) -> float:
        """The factor for the optimizer step that is about to be made, from 0 up."""
        warmup = round(self.warmup_epochs * progress.steps_per_epoch)
        if progress.step < warmup:
            return (progress.step + 1) / (warmup + 1)
        rest = ScheduleProgress(
            progress.step - warmup,
            max(progress.total_steps - warmup, 1),
            progress.steps_per_epoch,
            progress.unlock_step,
        )
        return self._factor(rest)

    @abstractmethod
    def _factor(self, progress: ScheduleProgress) -> float:
        """The factor after the warm-up; `progress` counts from the warm-up's end."""

    def observe(self, error: float, step: int) -> None:  # noqa: B027  # most have no state
        """Takes the validation mean error after a validation; only the plateau cares."""

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must keep; plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """The inverse of `state_dict`."""


class Constant(Schedule):
    """Always 1."""

    def _factor(self, progress: ScheduleProgress) -> float:
        return 1.0


class Step(Schedule):
    """Multiplied by `factor` every so many epochs, as torch's StepLR.

    Args:
        every_epochs: How many epochs between the falls.
        factor: By what, above 0 and up to 1.
        warmup_epochs: See Schedule.
    """

    def __init__(self, *, every_epochs: int = 10, factor: float = 0.3, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs=warmup_epochs)
        self.every_epochs = check_int("schedule.every_epochs", every_epochs, low=1)
        self.fall = check_number("schedule.factor", factor, low=0.0, high=1.0, open_low=True)

    def _factor(self, progress: ScheduleProgress) -> float:
        return float(self.fall ** (progress.step // progress.steps_per_epoch // self.every_epochs))


class Cosine(Schedule):
    """Half a cosine from 1 to `final`, as torch's CosineAnnealingLR step by step.

    Args:
        final: The last factor, from 0 to 1.
        warmup_epochs: See Schedule.
    """

    def __init__(self, *, final: float = 0.0, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs=warmup_epochs)
        self.final = check_number("schedule.final", final, low=0.0, high=1.0)

    def _factor(self, progress: ScheduleProgress) -> float:
        share = min(progress.step / progress.total_steps, 1.0)
        return self.final + (1.0 - self.final) * (1.0 + math.cos(math.pi * share)) / 2.0


class OneCycle(Schedule):
    """Up to 1 by a cosine, then down by another, as torch's OneCycleLR; momentum is left alone.

    It has its own rise, so a warm-up is refused.

    Args:
        rise: The share of the steps that goes up, above 0 and below 1.
        start: The first factor, above 0.
        final: The last factor, above 0.

    Source: L. N. Smith and N. Topin, arXiv 1708.07120.
    """

    def __init__(
        self, *, rise: float = 0.3, start: float = 0.04, final: float = 4e-6, warmup_epochs: float = 0.0
    ) -> None:
        super().__init__(warmup_epochs=warmup_epochs)
        if warmup_epochs:
            raise ConfigError.at(
                "schedule.warmup_epochs",
                "must be 0 with schedule=onecycle, which has a rise of its own",
                found=warmup_epochs,
                remedy="Set schedule.rise instead.",
            )
        self.rise = check_number("schedule.rise", rise, low=0.0, high=0.99, open_low=True)
        self.start = check_number("schedule.start", start, low=0.0, high=1.0, open_low=True)
        self.final = check_number("schedule.final", final, low=0.0, high=1.0, open_low=True)

    def _factor(self, progress: ScheduleProgress) -> float:
        top = self.rise * progress.total_steps - 1.0
        last = progress.total_steps - 1.0
        if progress.step <= top and top > 0.0:
            return _cosine_between(self.start, 1.0, progress.step / top)
        return _cosine_between(1.0, self.final, min((progress.step - top) / max(last - top, 1e-9), 1.0))


def _cosine_between(first: float, last: float, share: float) -> float:
    return last + (first - last) / 2.0 * (1.0 + math.cos(math.pi * share))


class Plateau(Schedule):
    """Multiplied by `factor` when the validation mean error has not fallen for `patience` validations.

    As torch's ReduceLROnPlateau. A group that is unlocked later takes part in the falls since then alone.

    Args:
        factor: By what, above 0 and below 1.
        patience: How many validations without a better error are borne; the next one makes it fall.
        threshold: By which share the error must fall to count as better.
        cooldown: Validations after a fall in which none are counted.
        floor: The factor never falls below this.
        warmup_epochs: See Schedule.
    """

    def __init__(
        self,
        *,
        factor: float = 0.66,
        patience: int = 5,
        threshold: float = 1e-4,
        cooldown: int = 0,
        floor: float = 1e-4,
        warmup_epochs: float = 0.0,
    ) -> None:
        super().__init__(warmup_epochs=warmup_epochs)
        self.fall = check_number("schedule.factor", factor, low=0.0, high=0.999, open_low=True)
        self.patience = check_int("schedule.patience", patience, low=0)
        self.threshold = check_number("schedule.threshold", threshold, low=0.0, high=1.0)
        self.cooldown = check_int("schedule.cooldown", cooldown, low=0)
        self.floor = check_number("schedule.floor", floor, low=0.0, high=1.0)
        self.best = math.inf
        self.bad = 0
        self.cooling = 0
        self.fell_at: list[int] = []

    def observe(self, error: float, step: int) -> None:
        """Takes a validation mean error; `step` is the number of optimizer steps made so far."""
        if error < self.best * (1.0 - self.threshold):
            self.best, self.bad = error, 0
        else:
            self.bad += 1
        if self.cooling > 0:
            self.cooling -= 1
            self.bad = 0
        if self.bad > self.patience:
            self.fell_at.append(step)
            self.bad, self.cooling = 0, self.cooldown

    def _factor(self, progress: ScheduleProgress) -> float:
        falls = sum(step > progress.unlock_step for step in self.fell_at)
        return max(float(self.fall**falls), self.floor)

    def state_dict(self) -> dict[str, Any]:
        return {"best": self.best, "bad": self.bad, "cooling": self.cooling, "fell_at": list(self.fell_at)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best, self.bad, self.cooling = float(state["best"]), int(state["bad"]), int(state["cooling"])
        self.fell_at = [int(step) for step in state["fell_at"]]


def compute_rates(
    bases: list[float],
    unlock_epochs: list[int | None],
    schedule: Schedule,
    *,
    step: int,
    steps_per_epoch: int,
    max_epochs: int,
) -> list[float]:
    """The learning rate of each parameter group for one optimizer step: base x schedule x gate.

    Args:
        bases: Each group's base rate.
        unlock_epochs: From which epoch on each group learns; None for never.
        schedule: The factor over a group's own clock.
        step: Optimizer steps made so far in the run.
        steps_per_epoch: Optimizer steps of one epoch.
        max_epochs: Epochs of the whole run.
    """
    found = []
    for base, epoch in zip(bases, unlock_epochs, strict=True):
        if epoch is None or step < epoch * steps_per_epoch:
            found.append(0.0)
            continue
        unlock_step = epoch * steps_per_epoch
        total = max(max_epochs * steps_per_epoch - unlock_step, 1)
        found.append(
            base * schedule.factor(ScheduleProgress(step - unlock_step, total, steps_per_epoch, unlock_step))
        )
    return found
