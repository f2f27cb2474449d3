"""A sweep's page in W&B: what varied, and which run is the best. The page as saved: tests/test_sweep_page.py."""

from __future__ import annotations

from typing import Any

from geoguesser.tracking.wandb_report import SweepRun, find_best_run, find_varied_keys


def runs(*rows: tuple[str, dict[str, Any], dict[str, Any]]) -> list[SweepRun]:
    """Runs by id, config and summary."""
    return [SweepRun(name, name, config, summary) for name, config, summary in rows]


def errors(val: float, test: float) -> dict[str, Any]:
    """A summary."""
    return {"val/error_km_mean": val, "test/error_km_mean": test}


def test_what_varied_is_told_once():
    found = runs(
        ("a", {"choice.head": "regression", "seed": 0, "lr": 1}, {}),
        ("b", {"choice.head": "classification", "loss.tau": 0.3, "seed": 0, "grid.size": 30, "lr": 1}, {}),
        ("c", {"choice.head": "classification", "loss.tau": 0.3, "seed": 0, "grid.size": 60, "lr": 1}, {}),
    )
    assert find_varied_keys(found) == ["choice.head", "grid.size"]  # tau comes and goes with the head
    assert find_varied_keys(found[:1]) == find_varied_keys([]) == []


def test_the_best_run_is_one_that_ended_and_the_test_error_does_not_choose():
    found = runs(
        ("a", {}, errors(10.0, 1.0)),
        ("b", {}, errors(8.0, 9.0)),
        ("killed", {}, {"val/error_km_mean.min": 1.0}),
        ("broken", {}, {"val/error_km_mean": 2.0}),
    )
    assert find_best_run(found) == found[1]
    assert find_best_run(found[2:]) is None
