"""Schedules, step by step against those of torch."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from geoguesser.training.schedule import (
    Constant,
    Cosine,
    OneCycle,
    Plateau,
    Schedule,
    ScheduleProgress,
    Step,
    compute_rates,
)

PER_EPOCH = 7
EPOCHS = 12


def compute_torch_factors(
    make: Callable[[torch.optim.Optimizer], Any], steps: int, *, every: int = 1
) -> list[float]:
    """Returns the rates of a torch schedule with base rate 1, one per optimizer step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    rates = []
    for step in range(steps):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < steps:
            scheduler.step()
    return rates


STEPS = PER_EPOCH * EPOCHS
REFERENCES: dict[str, tuple[Callable[[], Schedule], Callable[[int], list[float]]]] = {
    "constant": (Constant, lambda steps: [1.0] * steps),
    "step": (
        lambda: Step(every_epochs=2, factor=0.5),
        lambda steps: compute_torch_factors(lambda o: lr_scheduler.StepLR(o, 2, 0.5), steps, every=PER_EPOCH),
    ),
    "cosine": (
        lambda: Cosine(final_factor=0.1),
        lambda steps: compute_torch_factors(lambda o: lr_scheduler.CosineAnnealingLR(o, steps, 0.1), steps),
    ),
    "onecycle": (
        lambda: OneCycle(pct_start=0.25, start=0.1, final_factor=0.001),
        lambda steps: compute_torch_factors(
            lambda o: lr_scheduler.OneCycleLR(
                o, 1.0, steps, pct_start=0.25, div_factor=10, final_div_factor=100, cycle_momentum=False
            ),
            steps,
        ),
    ),
    "onecycle with its defaults": (
        OneCycle,
        lambda steps: compute_torch_factors(
            lambda o: lr_scheduler.OneCycleLR(o, 1.0, steps, cycle_momentum=False), steps
        ),
    ),
}


@pytest.mark.parametrize(("pct_start", "steps"), [(0.1, 10), (0.25, 4), (0.5, 2), (0.3, 1), (0.05, 10), (0.3, 2)])
def test_onecycle_over_few_steps(pct_start: float, steps: int) -> None:
    factors = [OneCycle(pct_start=pct_start).factor(ScheduleProgress(step, steps, 1)) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[-1] == pytest.approx(4e-6)

    # torch divides by zero for a rise of one step.
    assert (factors[0] == 1.0) or (pct_start, steps) != (0.1, 10)


def test_schedules_stay_at_their_end_beyond_it() -> None:
    for schedule in (Cosine(final_factor=0.2), OneCycle(final_factor=0.2)):
        assert schedule.factor(ScheduleProgress(STEPS + 50, STEPS, PER_EPOCH)) == pytest.approx(0.2)


def test_warmup_by_hand() -> None:
    def compute(schedule: Schedule, steps: Iterable[int]) -> list[float]:
        return [schedule.factor(ScheduleProgress(step, 24, 8)) for step in steps]

    # Half an epoch of 8 steps: 4 steps from 1/5 to 4/5, then the schedule from its beginning.
    factors = compute(Constant(warmup_epochs=0.5), range(7))
    assert factors == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])
    factors = compute(Step(every_epochs=1, factor=0.5, warmup_epochs=0.5), (3, 4, 11, 12, 19, 20, 23))
    assert factors == pytest.approx([0.8, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25])

    factors = compute(Cosine(final_factor=0.0, warmup_epochs=1), (0, 7, 8, 16, 20))
    halves = [(1 + math.cos(math.pi * share)) / 2 for share in (0.5, 0.75)]
    assert factors == pytest.approx([1 / 9, 8 / 9, 1.0, *halves])
    factors = compute(Plateau(factor=0.5, patience=0, warmup_epochs=0.25), range(3))
    assert factors == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_a_warmup_longer_than_training_only_rises() -> None:
    factors = [Cosine(warmup_epochs=10).factor(ScheduleProgress(step, 16, 8)) for step in range(16)]
    assert factors == pytest.approx([(step + 1) / 81 for step in range(16)])


@pytest.mark.parametrize("cooldown", [0, 1, 3])
@pytest.mark.parametrize("patience", [0, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_a_plateau_that_is_resumed_after_each_epoch_is_torchs(patience: int, cooldown: int, seed: int) -> None:
    rng = random.Random(seed)
    errors = [50 / (1 + at / 5) + rng.uniform(-4, 4) for at in range(60)]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, cooldown=cooldown, threshold=0.01, min_lr=0.02, eps=0.0
    )
    options = {"factor": 0.5, "patience": patience, "cooldown": cooldown, "threshold": 0.01, "floor": 0.02}
    plateau = Plateau(**options)

    reduced = 0
    for number, error in enumerate(errors, start=1):
        reference.step(error)
        plateau.observe(error, step=number * PER_EPOCH)

        # A resumed run has a new schedule, with the plain values of a checkpoint.
        state = json.loads(json.dumps(plateau.state_dict()))
        plateau = Plateau(**options)
        plateau.load_state_dict(state)
        rate = float(optimizer.param_groups[0]["lr"])
        progress = ScheduleProgress(number * PER_EPOCH, 1000, PER_EPOCH)
        assert plateau.factor(progress) == pytest.approx(rate), number
        reduced += rate < 1
    assert reduced > 5


def test_an_error_of_nan_is_never_lower() -> None:
    plateau = Plateau(factor=0.5, patience=1)
    for number, error in enumerate([10.0, math.nan, math.nan, 9.0], start=1):
        plateau.observe(error, number)
    assert plateau.reduced_at == [3]
    assert plateau.best == 9.0


UNLOCKS: list[int | None] = [0, 3, None]
BASES = [0.1, 0.01, 0.5]


def compute_staged_rates(schedule: Schedule, step: int) -> list[float]:
    return compute_rates(BASES, UNLOCKS, schedule, step=step, steps_per_epoch=PER_EPOCH, max_epochs=EPOCHS)


@pytest.mark.parametrize("name", REFERENCES)
def test_each_group_has_its_own_progress(name: str) -> None:
    make, reference = REFERENCES[name]
    schedule = make()
    late = 3 * PER_EPOCH
    head = [0.1 * factor for factor in reference(STEPS)]
    backbone = [0.0] * late + [0.01 * factor for factor in reference(STEPS - late)]
    for step in range(STEPS):
        expected = [head[step], backbone[step], 0.0]
        assert compute_staged_rates(schedule, step) == pytest.approx(expected, rel=1e-6, abs=1e-10), step


def test_each_group_has_its_own_warmup() -> None:
    schedule = Constant(warmup_epochs=3 / PER_EPOCH)
    table = [compute_staged_rates(schedule, step) for step in (0, 1, 2, 3, 20, 21, 22, 23, 24)]
    assert [row[0] for row in table] == pytest.approx([0.025, 0.05, 0.075, *[0.1] * 6])
    assert [row[1] for row in table] == pytest.approx([*[0.0] * 5, 0.0025, 0.005, 0.0075, 0.01])


def test_reductions_before_an_unlocking_do_not_affect_the_later_group() -> None:
    plateau = Plateau(factor=0.5, patience=0)
    # Validations end epochs 0, 1, ...; the second group is unlocked when epoch 3 begins.
    table = []
    for epoch, error in enumerate([10.0, 11.0, 11.0, 9.0, 12.0, 8.0]):
        table.append(compute_staged_rates(plateau, epoch * PER_EPOCH))
        plateau.observe(error, (epoch + 1) * PER_EPOCH)
    table.append(compute_staged_rates(plateau, 6 * PER_EPOCH))
    # Reductions at the ends of epochs 1, 2 (both before the unlocking) and 4.
    assert [row[0] for row in table] == pytest.approx([0.1, 0.1, 0.05, 0.025, 0.025, 0.0125, 0.0125])
    assert [row[1] for row in table] == pytest.approx([0, 0, 0, 0.01, 0.01, 0.005, 0.005])
    assert {row[2] for row in table} == {0.0}
