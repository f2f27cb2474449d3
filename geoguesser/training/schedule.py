"""Learning rate schedules: the factor of the base rate as a function of a parameter group's progress.

A group's progress counts from the epoch at which it is unlocked. Every schedule but the plateau is a pure function
of progress, so that a resumed run has the same rates. The plateau keeps the steps at which it reduced the rate.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Any

from geoguesser.errors import ConfigError, check_int, check_number


@dataclass(frozen=True)
class ScheduleProgress:
    """Progress of a parameter group in optimizer steps.

    Attributes:
        step: Steps since the group was unlocked.
        total_steps: Steps from the unlocking to the end of training.
        unlock_step: Steps of the run before the unlocking.
    """

    step: int
    total_steps: int
    steps_per_epoch: int
    unlock_step: int = 0


class Schedule(ABC):
    """Base class of the schedules.

    The factor rises linearly from 0 to 1 over `warmup_epochs`, a number of epochs or a fraction of one, for each
    group from its unlocking.
    """

    def __init__(self, *, warmup_epochs: float = 0.0) -> None:
        self.warmup_epochs = check_number("schedule.warmup_epochs", warmup_epochs, low=0.0)

    def factor(self, progress: ScheduleProgress) -> float:
        """Returns the factor of the base rate for the next optimizer step."""
        warmup_steps = round(self.warmup_epochs * progress.steps_per_epoch)
        if progress.step < warmup_steps:
            return (progress.step + 1) / (warmup_steps + 1)

        step, total_steps = progress.step - warmup_steps, max(progress.total_steps - warmup_steps, 1)
        return self._factor(replace(progress, step=step, total_steps=total_steps))

    @abstractmethod
    def _factor(self, progress: ScheduleProgress) -> float:
        """Returns the factor after the warm-up; `progress` counts from the end of the warm-up."""

    def observe(self, error: float, step: int) -> None:  # noqa: B027
        """Takes the mean error of a validation after `step` optimizer steps; used by the plateau only."""

    def state_dict(self) -> dict[str, Any]:
        """Returns the state for a checkpoint, as plain values."""
        return {}

    def load_state_dict(self, state: dict[str, Any]) -> None:  # noqa: B027
        """Restores the state of `state_dict`."""


class Constant(Schedule):
    """Constant factor of 1."""

    def _factor(self, progress: ScheduleProgress) -> float:
        return 1.0


class Step(Schedule):
    """Multiplication by `factor` every `every_epochs` epochs, as in torch's StepLR.

    Args:
        every_epochs: Epochs between two reductions.
        factor: Factor of each reduction, above 0 and at most 1.
        warmup_epochs: As in `Schedule`.
    """

    def __init__(self, *, every_epochs: int = 10, factor: float = 0.3, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs=warmup_epochs)
        self.every_epochs = check_int("schedule.every_epochs", every_epochs, low=1)
        self.decay = check_number("schedule.factor", factor, low=0.0, high=1.0, open_low=True)

    def _factor(self, progress: ScheduleProgress) -> float:
        return float(self.decay ** (progress.step // progress.steps_per_epoch // self.every_epochs))


class Cosine(Schedule):
    """Half a cosine from 1 to `final_factor`, as in torch's CosineAnnealingLR stepped once per optimizer step.

    Args:
        final_factor: Last factor, from 0 to 1.
        warmup_epochs: As in Schedule.
    """

    def __init__(self, *, final_factor: float = 0.0, warmup_epochs: float = 0.0) -> None:
        super().__init__(warmup_epochs=warmup_epochs)
        self.final_factor = check_number("schedule.final_factor", final_factor, low=0.0, high=1.0)

    def _factor(self, progress: ScheduleProgress) -> float:
        return _interpolate_cosine(1.0, self.final_factor, min(progress.step / progress.total_steps, 1.0))


class OneCycle(Schedule):
    """Rise to 1 and fall to `final_factor`, each along half a cosine, as in torch's OneCycleLR.

    The momentum is constant.

    Args:
        pct_start: Fraction of the steps in the rising part, above 0 and below 1.
        start: First factor, above 0.
        final_factor: Last factor, above 0.
        warmup_epochs: 0, because the schedule begins with a rise.

    Source: L. N. Smith and N. Topin, arXiv 1708.07120.
    """

    def __init__(
        self,
        *,
        pct_start: float = 0.3,
        start: float = 0.04,
        final_factor: float = 4e-6,
        warmup_epochs: float = 0.0,
    ) -> None:
        super().__init__(warmup_epochs=warmup_epochs)
        if warmup_epochs:
            rule = "must be 0 with schedule=onecycle, which begins with a rise"
            remedy = "Set schedule.pct_start instead."
            raise ConfigError.at("schedule.warmup_epochs", rule, found=warmup_epochs, remedy=remedy)
        self.pct_start = check_number("schedule.pct_start", pct_start, low=0.0, high=0.99, open_low=True)
        self.start = check_number("schedule.start", start, low=0.0, high=1.0, open_low=True)
        self.final_factor = check_number("schedule.final_factor", final_factor, low=0.0, high=1.0, open_low=True)

    def _factor(self, progress: ScheduleProgress) -> float:
        # Steps at which the factor is 1 and final_factor. As in torch, steps count from 0, hence the -1.
        peak = self.pct_start * progress.total_steps - 1.0
        last = progress.total_steps - 1.0

        # A rise of one step or less starts at the peak, where torch divides by zero.
        if progress.step <= peak and peak > 0.0:
            return _interpolate_cosine(self.start, 1.0, progress.step / peak)
        fraction = min((progress.step - peak) / max(last - peak, 1e-9), 1.0)
        return _interpolate_cosine(1.0, self.final_factor, fraction)


class Plateau(Schedule):
    """Multiplication by `factor` after `patience` validations without a lower mean error.

    Reduces the rate at the same validations as torch's ReduceLROnPlateau. A group that is unlocked later is
    affected by later reductions only.

    Args:
        factor: Factor of each reduction, above 0 and below 1.
        patience: Validations without a lower error that are tolerated; the next one reduces the rate.
        threshold: Relative decrease of the error that counts as lower.
        cooldown: Validations after a reduction that are not counted.
        floor: Lowest factor.
        warmup_epochs: As in Schedule.
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
        self.decay = check_number("schedule.factor", factor, low=0.0, high=0.999, open_low=True)
        self.patience = check_int("schedule.patience", patience, low=0)
        self.threshold = check_number("schedule.threshold", threshold, low=0.0, high=1.0)
        self.cooldown = check_int("schedule.cooldown", cooldown, low=0)
        self.floor = check_number("schedule.floor", floor, low=0.0, high=1.0)
        self.best, self.bad_validations, self.cooldown_left = math.inf, 0, 0
        self.reduced_at: list[int] = []

    def observe(self, error: float, step: int) -> None:
        # A NaN is never lower, so it counts as a bad validation.
        if error < self.best * (1.0 - self.threshold):
            self.best, self.bad_validations = error, 0
        else:
            self.bad_validations += 1

        if self.cooldown_left > 0:
            self.cooldown_left -= 1
            self.bad_validations = 0

        if self.bad_validations > self.patience:
            self.reduced_at.append(step)
            self.bad_validations, self.cooldown_left = 0, self.cooldown

    def _factor(self, progress: ScheduleProgress) -> float:
        reductions = sum(step > progress.unlock_step for step in self.reduced_at)
        return max(float(self.decay**reductions), self.floor)

    def state_dict(self) -> dict[str, Any]:
        state = {"best": self.best, "bad": self.bad_validations, "cooling": self.cooldown_left}
        return state | {"fell_at": list(self.reduced_at)}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self.best = float(state["best"])
        self.bad_validations, self.cooldown_left = int(state["bad"]), int(state["cooling"])
        self.reduced_at = [int(step) for step in state["fell_at"]]


def compute_rates(
    bases: list[float],
    unlock_epochs: list[int | None],
    schedule: Schedule,
    *,
    step: int,
    steps_per_epoch: int,
    max_epochs: int,
) -> list[float]:
    """Returns the learning rate of each parameter group for one optimizer step: base x schedule x gate.

    The gate is 0 before the epoch at which the group is unlocked (None: never), and 1 from then on. `step` counts
    the optimizer steps of the run so far.
    """
    rates = []
    for base, epoch in zip(bases, unlock_epochs, strict=True):
        if epoch is None or step < epoch * steps_per_epoch:
            rates.append(0.0)
            continue

        unlock_step = epoch * steps_per_epoch
        total_steps = max(max_epochs * steps_per_epoch - unlock_step, 1)
        progress = ScheduleProgress(step - unlock_step, total_steps, steps_per_epoch, unlock_step)
        rates.append(base * schedule.factor(progress))
    return rates


def _interpolate_cosine(first: float, last: float, fraction: float) -> float:
    """Returns the value at a fraction of the way from `first` to `last` along half a cosine."""
    return last + (first - last) / 2.0 * (1.0 + math.cos(math.pi * fraction))
