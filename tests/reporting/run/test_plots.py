"""Plots of a run: computations against known values, pictures by their size and bytes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.pictures import check_same_twice

from geoguesser.reporting import style
from geoguesser.reporting.run import plots


def make_history(epochs: int, **columns: Any) -> pd.DataFrame:
    epoch = np.arange(epochs)
    table = {
        "epoch": epoch,
        "step": 10 * (epoch + 1),
        "train/loss": 4.0 / (epoch + 1),
        "val/loss": 5.0 / (epoch + 1),
        "val/error_km_mean": 100.0 / (epoch + 1) + epoch,
        "val/error_km_median": 80.0 / (epoch + 1),
        "lr/head": np.full(epochs, 1e-3),
        "lr/backbone": np.where(epoch < epochs // 2, 0.0, 2e-5),
    }
    return pd.DataFrame({**table, **columns})


def test_axis_of_errors_holds_nearly_all_errors_and_every_baseline() -> None:
    error_km = np.append(np.linspace(0, 100, 999), 5000.0)
    assert 100 < plots.compute_histogram_end_km(error_km, {}) < 150
    assert plots.compute_histogram_end_km(error_km, {"constant": 900.0}) == pytest.approx(945.0)
    assert plots.compute_histogram_end_km(np.array([70.0]), {}) == pytest.approx(71.4)
    assert plots.compute_histogram_end_km(np.zeros(3), {}) == 1.0
    assert plots.compute_histogram_end_km(np.append(np.ones(999), 2e7), {}) > 2e4


def test_best_point_is_found_among_rows_of_one_epoch() -> None:
    history = pd.DataFrame({"epoch": [0, 0, 1, 1], "val/error_km_mean": [np.nan, 9.0, 7.0, np.nan]})
    assert plots.find_best_point(history, 1) == (1, 7.0)
    assert plots.find_best_point(history, 2) is None
    assert plots.find_best_point(history, None) is None
    assert plots.find_best_point(history[["epoch"]], 1) is None


def test_learning_rates_that_stay_zero_are_left_out() -> None:
    history = make_history(4, **{"lr/stem": np.zeros(4), "lr/none": np.full(4, np.nan)})
    assert plots.find_rate_columns(history) == ["lr/head", "lr/backbone"]


def test_of_many_learning_rates_the_first_and_the_last_are_named() -> None:
    few = plots.make_rate_labels(["lr/head", "lr/backbone"])
    assert few == {"lr/head": "head", "lr/backbone": "backbone"}
    many = plots.make_rate_labels([f"lr/block_{number}" for number in range(12)])
    named = [label for label in many.values() if not label.startswith("_")]
    assert named == ["block_0, first of 12 groups", "block_11, last"]


def test_loss_axis_cuts_the_explosion() -> None:
    losses = np.concatenate((np.full(50, 4.0), np.linspace(4, 2, 40), np.geomspace(2, 1e6, 10)))
    low, high = plots.compute_loss_limits(losses)
    assert low < 2.0
    assert 4.0 < high < 6.0
    assert plots.compute_loss_limits(np.array([3.0])) == (2.5, 3.5)


@pytest.mark.parametrize("count", [1, 3000, pytest.param(70_000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("scale_km", [0.0, 40.0])
def test_errors_are_drawn(tmp_path: Path, count: int, scale_km: float) -> None:
    error_km = np.random.default_rng(0).gamma(1.6, scale_km, count)
    baselines = {"centre of the region": 178.0, "median of the training places": 160.0} if count > 1 else {}
    check_same_twice(tmp_path, plots.draw_errors, error_km=error_km, baselines=baselines, title="frozen, $eed_0$")


@pytest.mark.parametrize(
    "history",
    [
        make_history(1),
        make_history(3)[["epoch", "step", "train/loss"]],
        make_history(4, **{"val/loss": np.nan, "val/error_km_mean": np.nan, "val/error_km_median": np.nan}),
        make_history(4, **{"lr/head": 0.0, "lr/backbone": np.nan}),
        make_history(4, **{"train/loss": [1.0, np.nan, np.inf, 2.0]}),
        make_history(4, **{f"lr/block_{number}": 1e-3 * 0.7**number for number in range(15)}),
    ],
)
def test_curves_are_drawn_also_with_gaps(tmp_path: Path, history: pd.DataFrame) -> None:
    check_same_twice(tmp_path, plots.draw_curves, history=history, best_epoch=len(history) - 1)


@pytest.mark.parametrize("losses", [[4.0], [np.nan], [*np.linspace(4, 9, 99), np.nan]])
def test_a_rate_search_is_drawn_also_if_it_diverged(tmp_path: Path, losses: list[float]) -> None:
    rates = np.geomspace(1e-7, 1.0, len(losses))
    check_same_twice(tmp_path, plots.draw_rate_search, rates=rates, losses=np.array(losses), chosen=1e-7)


def test_an_error_leaves_the_old_picture_and_no_other_file(tmp_path: Path) -> None:
    path = tmp_path / "p.png"
    path.write_bytes(b"old")
    with pytest.raises(RuntimeError, match="while drawing"), style.picture(path, 3.0):
        raise RuntimeError("while drawing")
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]
