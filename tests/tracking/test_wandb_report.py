"""Varied keys and best run of a sweep's page in W&B; tests/commands/test_dashboard.py tests the saved page."""

from __future__ import annotations

from typing import Any

from geoguesser.tracking.wandb_report import SweepRun, find_best_run, find_varied_keys


def make_run(name: str, config: dict[str, Any] | None = None, **summary: float) -> SweepRun:
    return SweepRun(name, name, config or {}, {f"{key}/error_km_mean": value for key, value in summary.items()})


def test_keys_that_vary_together_are_returned_once():
    head, tau = {"choice.head": "classification", "seed": 0, "lr": 1}, {"loss.tau": 0.3}
    runs = [
        make_run("a", {"choice.head": "regression", "seed": 0, "lr": 1}),
        make_run("b", head | tau | {"grid.size": 30}),
        make_run("c", head | tau | {"grid.size": 60}),
    ]
    assert find_varied_keys(runs) == ["choice.head", "grid.size"]
    assert find_varied_keys(runs[:1]) == find_varied_keys([]) == []


def test_the_best_run_is_a_completed_one_and_the_test_error_does_not_choose():
    killed = SweepRun("killed", "killed", {}, {"val/error_km_mean.min": 1.0})
    runs = [
        make_run("a", val=10.0, test=1.0),
        make_run("b", val=8.0, test=9.0),
        killed,
        make_run("failed", val=2.0),
    ]
    assert find_best_run(runs) == runs[1]
    assert find_best_run(runs[2:]) is None
