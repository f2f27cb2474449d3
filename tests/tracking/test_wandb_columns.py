"""Names, tags and columns of runs in W&B."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoguesser.tracking.wandb_columns import (
    MAX_NAME_LENGTH,
    MAX_TAG_LENGTH,
    choose_summary_statistic,
    make_config_columns,
    make_run_name,
    make_summary,
    make_tags,
)

CHOICES = {
    "head": "classification",
    "grid": "square",
    "backbone": "efficientnet_lite0",
    "density": "usual",
    "experiment": None,
    "logger": "wandb",
    "hydra/job_logging": "geoguesser",
}
CONFIG = {
    "grid": {"_target_": "a.b", "size": 30, "spacing_km": None},
    "head": {"_target_": "a.c"},
    "backbone": {"_target_": "a.d", "name": "lite0", "weights": "/home/ann/w.pth"},
    "finetune": {"_target_": "a.e", "stages": [{"epoch": 0, "from": "head"}, {"epoch": 1, "from": "last_1"}]},
    "split": {"shares": [0.8, 0.1, 0.1], "note": "~/x"},
    "logger": {"project": "p"},
    "name": "trial",
    "callbacks": {"early_stopping": {"_target_": "a.f"}},
    "seed": 0,
    "api_key": "abc",
}


def test_the_config_becomes_single_values_in_nested_keys():
    assert make_config_columns(CONFIG, CHOICES) == {
        "grid": {"size": 30, "spacing_km": None},
        "backbone": {"name": "lite0"},
        "finetune": {"stages": '{"epoch": 0, "from": "head"}, {"epoch": 1, "from": "last_1"}'},
        "split": {"shares": "0.8, 0.1, 0.1", "note": "(a path)"},
        "seed": 0,
        "choice": {"head": "classification", "grid": "square", "backbone": "efficientnet_lite0"},
    }


def test_choices_of_unused_groups_are_left_out():
    config = {key: value for key, value in CONFIG.items() if key != "grid"}
    choices = CHOICES | {"head": "regression", "experiment": "quick"}
    assert make_config_columns(config, choices)["choice"] == {
        "head": "regression",
        "backbone": "efficientnet_lite0",
        "experiment": "quick",
    }
    assert make_tags(config, choices) == ["experiment=quick", "backbone=efficientnet_lite0", "head=regression"]


def test_tags_are_short_enough_for_wandb():
    (tag,) = make_tags({"head": {}}, {"head": "x" * 100})
    assert len(tag) == MAX_TAG_LENGTH


def test_names_hold_the_overrides_without_private_ones():
    overrides = [
        *("head=regression", "+grid.size=30", "seed=1", "~callbacks.early_stopping", "loss=smoothed"),
        *("logger.entity=ann", "name=x", "pictures=false", "data.roots=[a,b]", "data.note='/home/ann'"),
        *("hydra.run.dir=x", "+a.token=hunter2", "init_from=runs/1"),
    ]
    name = "regression grid.size=30 seed=1 callbacks.early_stopping loss=smoothed"
    assert make_run_name(overrides, CHOICES, "f") == name
    assert make_run_name([], CHOICES, "12-30-01") == "12-30-01"


@given(st.lists(st.text("abc=./~ ", min_size=1, max_size=40), max_size=30), st.text("abcdef0123", max_size=60))
def test_names_are_bounded_and_end_with_the_folder_if_cut(words: list[str], folder: str):
    name = make_run_name(words, CHOICES, folder)
    assert len(name) <= MAX_NAME_LENGTH
    if "…" in name:
        assert name.endswith(folder[-37:])


def test_the_summary_has_no_unknown_values():
    result = {
        "test": {"places": 3, "error_km_mean": 5.0, "cell_top1": None, "share_within_km": {"25": 0.5}},
        "val": {"error_km_mean": 6.0},
        "grid": None,
        "baseline": {"best_constant": {"error_km_mean": 9.0}, "ridge": None},
        "parameters": {"total": 7},
        "times": {"fit_s": 1.5, "total_s": 2.5},
        **{"best_epoch": 1, "epochs": 2, "steps": 8},
    }
    assert make_summary(result) == {
        "test/places": 3,
        "test/error_km_mean": 5.0,
        "test/share_within_25_km": 0.5,
        "val/error_km_mean": 6.0,
        "baseline/best_constant_km": 9.0,
        "parameters/total": 7,
        "seconds/fit": 1.5,
        "seconds/total": 2.5,
        **{"best_epoch": 1, "epochs": 2, "steps": 8},
    }
    grid = {"asked": None, "hold_training_places": 20, "side_km": 71.4}
    summary = make_summary(result | {"grid": grid})
    assert (summary["grid/hold_training_places"], summary["grid/side_km"]) == (20, 71.4)
    assert "grid/asked" not in summary


@pytest.mark.parametrize(
    ("statistic", "names"),
    [
        ("min", ("error_km_mean", "error_km_p90", "loss")),
        ("max", ("score_mean", "share_within_25_km", "cell_top1")),
    ],
)
def test_the_best_value_is_the_lowest_error_or_the_highest_score(statistic: str, names: tuple[str, ...]):
    assert {choose_summary_statistic(f"val/{name}") for name in names} == {statistic}
