"""Schedules step by step against torch's own."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.optim import lr_scheduler

from geoguesser.errors import ConfigError
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


def torch_factors(make: Callable[[torch.optim.Optimizer], Any], steps: int, *, every: int = 1) -> list[float]:
    """The rates of a torch schedule of base rate 1, one per optimizer step."""
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = make(optimizer)
    found = []
    for step in range(steps):
        found.append(float(optimizer.param_groups[0]["lr"]))
        optimizer.step()
        if (step + 1) % every == 0 and step + 1 < steps:
            scheduler.step()
    return found


def own_factors(schedule: Schedule, steps: int) -> list[float]:
    return [schedule.factor(ScheduleProgress(step, steps, PER_EPOCH)) for step in range(steps)]


STEPS = PER_EPOCH * EPOCHS
REFERENCES: dict[str, tuple[Callable[[], Schedule], Callable[[int], list[float]]]] = {
    "constant": (Constant, lambda steps: [1.0] * steps),
    "step": (
        lambda: Step(every_epochs=2, factor=0.5),
        lambda steps: torch_factors(lambda o: lr_scheduler.StepLR(o, 2, 0.5), steps, every=PER_EPOCH),
    ),
    "cosine": (
        lambda: Cosine(final_factor=0.1),
        lambda steps: torch_factors(lambda o: lr_scheduler.CosineAnnealingLR(o, steps, 0.1), steps),
    ),
    "onecycle": (
        lambda: OneCycle(pct_start=0.25, start=0.1, final_factor=0.001),
        lambda steps: torch_factors(
            lambda o: lr_scheduler.OneCycleLR(
                o, 1.0, steps, pct_start=0.25, div_factor=10, final_div_factor=100, cycle_momentum=False
            ),
            steps,
        ),
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_schedules_are_torchs_step_by_step(name: str) -> None:
    make, reference = REFERENCES[name]
    assert own_factors(make(), STEPS) == pytest.approx(reference(STEPS), rel=1e-6, abs=1e-9)


def test_onecycle_defaults_are_torchs() -> None:
    expected = torch_factors(lambda o: lr_scheduler.OneCycleLR(o, 1.0, STEPS, cycle_momentum=False), STEPS)
    own = own_factors(OneCycle(), STEPS)
    assert own == pytest.approx(expected, rel=1e-5, abs=1e-8)
    assert max(own) == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize(("pct_start", "steps"), [(0.1, 10), (0.25, 4), (0.5, 2), (0.3, 1), (0.05, 10), (0.3, 2)])
def test_onecycle_over_few_steps(pct_start: float, steps: int) -> None:
    factors = [OneCycle(pct_start=pct_start).factor(ScheduleProgress(step, steps, 1)) for step in range(steps)]
    assert all(0 < factor <= 1 for factor in factors)
    assert factors[-1] == pytest.approx(4e-6)


def test_onecycle_whose_rise_is_one_step_starts_at_the_top() -> None:
    assert OneCycle(pct_start=0.1).factor(ScheduleProgress(0, 10, 1)) == 1.0  # torch divides by zero here


def test_schedules_stay_at_their_end_beyond_it() -> None:
    for schedule in (Cosine(final_factor=0.2), OneCycle(final_factor=0.2)):
        assert schedule.factor(ScheduleProgress(STEPS + 50, STEPS, PER_EPOCH)) == pytest.approx(0.2)


def test_warmup_by_hand() -> None:
    # Half an epoch of 8 steps: 4 steps of 1/5 to 4/5, then the schedule from its own beginning.
    constant = Constant(warmup_epochs=0.5)
    found = [constant.factor(ScheduleProgress(step, 24, 8)) for step in range(7)]
    assert found == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0, 1.0, 1.0])
    step = Step(every_epochs=1, factor=0.5, warmup_epochs=0.5)
    found = [step.factor(ScheduleProgress(at, 24, 8)) for at in (3, 4, 11, 12, 19, 20, 23)]
    assert found == pytest.approx([0.8, 1.0, 1.0, 0.5, 0.5, 0.25, 0.25])
    cosine = Cosine(final_factor=0.0, warmup_epochs=1)
    found = [cosine.factor(ScheduleProgress(at, 24, 8)) for at in (0, 7, 8, 16, 20)]
    halves = [(1 + math.cos(math.pi * share)) / 2 for share in (0.5, 0.75)]
    assert found == pytest.approx([1 / 9, 8 / 9, 1.0, *halves])
    plateau = Plateau(factor=0.5, patience=0, warmup_epochs=0.25)
    found = [plateau.factor(ScheduleProgress(at, 24, 8)) for at in range(3)]
    assert found == pytest.approx([1 / 3, 2 / 3, 1.0])


def test_a_warmup_longer_than_training_only_rises() -> None:
    cosine = Cosine(warmup_epochs=10)
    found = [cosine.factor(ScheduleProgress(step, 16, 8)) for step in range(16)]
    assert found == pytest.approx([(step + 1) / 81 for step in range(16)])


@pytest.mark.parametrize("cooldown", [0, 1, 3])
@pytest.mark.parametrize("patience", [0, 2, 4])
@pytest.mark.parametrize("seed", range(4))
def test_plateau_is_torchs(patience: int, cooldown: int, seed: int) -> None:
    rng = random.Random(seed)
    errors = [50 / (1 + at / 5) + rng.uniform(-4, 4) for at in range(60)]
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    reference = lr_scheduler.ReduceLROnPlateau(
        optimizer, factor=0.5, patience=patience, cooldown=cooldown, threshold=0.01, min_lr=0.02, eps=0.0
    )
    own = Plateau(factor=0.5, patience=patience, cooldown=cooldown, threshold=0.01, floor=0.02)
    falls = 0
    for at, error in enumerate(errors):
        reference.step(error)
        own.observe(error, step=(at + 1) * PER_EPOCH)
        rate = float(optimizer.param_groups[0]["lr"])
        assert own.factor(ScheduleProgress((at + 1) * PER_EPOCH, 1000, PER_EPOCH)) == pytest.approx(rate), at
        falls += rate < 1
    assert falls > 5


def test_an_error_that_is_no_number_is_never_better() -> None:
    plateau = Plateau(factor=0.5, patience=1)
    for at, error in enumerate([10.0, math.nan, math.nan, 9.0]):
        plateau.observe(error, at + 1)
    assert plateau.reduced_at == [3]
    assert plateau.best == 9.0


UNLOCKS: list[int | None] = [0, 3, None]
BASES = [0.1, 0.01, 0.5]


def staged_rates(schedule: Schedule, step: int) -> list[float]:
    return compute_rates(BASES, UNLOCKS, schedule, step=step, steps_per_epoch=PER_EPOCH, max_epochs=EPOCHS)


@pytest.mark.parametrize("name", REFERENCES)
def test_each_group_has_its_own_clock(name: str) -> None:
    make, reference = REFERENCES[name]
    schedule = make()
    late = 3 * PER_EPOCH
    head = [0.1 * factor for factor in reference(STEPS)]
    backbone = [0.0] * late + [0.01 * factor for factor in reference(STEPS - late)]
    for step in range(STEPS):
        expected = [head[step], backbone[step], 0.0]
        assert staged_rates(schedule, step) == pytest.approx(expected, rel=1e-6, abs=1e-10), step


def test_each_group_has_its_own_warmup() -> None:
    schedule = Constant(warmup_epochs=3 / PER_EPOCH)
    table = [staged_rates(schedule, step) for step in (0, 1, 2, 3, 20, 21, 22, 23, 24)]
    assert [row[0] for row in table] == pytest.approx([0.025, 0.05, 0.075, *[0.1] * 6])
    assert [row[1] for row in table] == pytest.approx([*[0.0] * 5, 0.0025, 0.005, 0.0075, 0.01])


def test_falls_before_an_unlocking_leave_the_later_group_alone() -> None:
    plateau = Plateau(factor=0.5, patience=0)
    # Validations end epochs 0, 1, ...; the second group is unlocked when epoch 3 begins.
    table = []
    for epoch, error in enumerate([10.0, 11.0, 11.0, 9.0, 12.0, 8.0]):
        table.append(staged_rates(plateau, epoch * PER_EPOCH))
        plateau.observe(error, (epoch + 1) * PER_EPOCH)
    table.append(staged_rates(plateau, 6 * PER_EPOCH))
    # Falls at the ends of epochs 1, 2 (both before the unlocking) and 4.
    assert [row[0] for row in table] == pytest.approx([0.1, 0.1, 0.05, 0.025, 0.025, 0.0125, 0.0125])
    assert [row[1] for row in table] == pytest.approx([0, 0, 0, 0.01, 0.01, 0.005, 0.005])
    assert {row[2] for row in table} == {0.0}


def test_the_floor_holds_for_each_group() -> None:
    plateau = Plateau(factor=0.1, patience=0, floor=0.05)
    for epoch in range(6):
        plateau.observe(10.0, (epoch + 1) * PER_EPOCH)
    assert staged_rates(plateau, 6 * PER_EPOCH) == pytest.approx([0.1 * 0.05, 0.01 * 0.05, 0.0])


@pytest.mark.parametrize("cut", range(0, 30, 3))
def test_plateau_goes_on_from_its_state_as_if_never_stopped(cut: int) -> None:
    rng = random.Random(7)
    errors = [rng.uniform(9, 11) for _ in range(30)]

    def run(schedule: Schedule, start: int, end: int) -> list[float]:
        found = []
        for at in range(start, end):
            schedule.observe(errors[at], at + 1)
            found.append(schedule.factor(ScheduleProgress(at + 1, 100, 1)))
        return found

    made = {"factor": 0.5, "patience": 1, "cooldown": 2}
    whole = run(Plateau(**made), 0, 30)  # type: ignore[arg-type]
    first = Plateau(**made)  # type: ignore[arg-type]
    before = run(first, 0, cut)
    second = Plateau(**made)  # type: ignore[arg-type]
    state = first.state_dict()
    json.dumps(state)  # plain values
    second.load_state_dict(state)
    assert before + run(second, cut, 30) == whole
    assert second.state_dict() is not state
    assert len(second.reduced_at) > 2


@pytest.mark.parametrize("schedule", [Constant(), Step(), Cosine(), OneCycle()])
def test_the_others_have_no_state(schedule: Schedule) -> None:
    before = own_factors(schedule, 20)
    schedule.observe(1e9, 3)
    assert schedule.state_dict() == {}
    schedule.load_state_dict({})
    assert own_factors(schedule, 20) == before


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Constant(warmup_epochs=-1), "schedule.warmup_epochs must be a number from 0, got -1."),
        (lambda: Step(every_epochs=0), "schedule.every_epochs must be a positive integer, got 0."),
        (lambda: Step(factor=0), "schedule.factor must be a number above 0 to 1, got 0."),
        (lambda: Cosine(final_factor=2), "schedule.final_factor must be a number from 0 to 1, got 2."),
        (lambda: OneCycle(pct_start=1.0), "schedule.pct_start must be a number above 0 to 0.99, got 1.0."),
        (lambda: OneCycle(start=0), "schedule.start must be a number above 0 to 1, got 0."),
        (lambda: OneCycle(final_factor=0.0), "schedule.final_factor must be a number above 0 to 1, got 0.0."),
        (
            lambda: OneCycle(warmup_epochs=1),
            "schedule.warmup_epochs must be 0 with schedule=onecycle, which begins with a rise, got 1. "
            "Set schedule.pct_start instead.",
        ),
        (lambda: Plateau(factor=1.0), "schedule.factor must be a number above 0 to 0.999, got 1.0."),
        (lambda: Plateau(patience=-1), "schedule.patience must be an integer from 0 up, got -1."),
        (lambda: Plateau(patience=1.5), "schedule.patience must be an integer from 0 up, got 1.5."),
        (lambda: Plateau(threshold=-0.1), "schedule.threshold must be a number from 0 to 1, got -0.1."),
        (lambda: Plateau(cooldown="a"), "schedule.cooldown must be an integer from 0 up, got 'a'."),
        (lambda: Plateau(floor=1.1), "schedule.floor must be a number from 0 to 1, got 1.1."),
    ],
)
def test_wrong_values(make: Callable[[], Schedule], message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make()
    assert str(caught.value) == message
