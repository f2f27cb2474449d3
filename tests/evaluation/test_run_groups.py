"""Groups of runs and the config values that differ between them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.run_folders import make_places, write_run

from geoguesser.commands.compare import load_choices, read_config
from geoguesser.data.sources.base import SourceKind
from geoguesser.evaluation.run_groups import RunGroup, find_differences, group_runs
from geoguesser.runs.config_history import ADDED_KEYS
from geoguesser.runs.run_folder import Run, read_runs

PLACES = make_places(30)
KFOLD = {"split._target_": "geoguesser.data.splits.KFoldSplit", "split.folds": 3, "split.shares-": None}


def read(*folders: Path) -> list[Run]:
    return read_runs([str(folder) for folder in folders], read_config)[0]


def make_groups(tmp_path: Path, *changes: dict[str, Any]) -> list[RunGroup]:
    runs = [
        write_run(tmp_path / f"run{number}", PLACES, np.full(30, 10.0 + number), changes=change)
        for number, change in enumerate(changes)
    ]
    return group_runs(read(*runs))[0]


def test_seeds_are_one_group_with_a_row_each(tmp_path: Path):
    groups = make_groups(
        tmp_path, {"seed": 2}, {"seed": 0}, {"seed": 1, "name": "mine", "data.num_workers": 4}, {"grid.size": 30}
    )
    assert [group.seeds for group in groups] == [[0, 1, 2], [0]]

    # Rows are sorted by seed, not by folder.
    np.testing.assert_allclose(groups[0].errors[:, 0], [11.0, 12.0, 10.0])
    np.testing.assert_allclose(groups[0].error_km, 11.0)


def test_a_repeat_is_not_a_second_observation(tmp_path: Path):
    folders = [write_run(tmp_path / name, PLACES, np.full(30, 5.0)) for name in ("a", "b")]
    (group,), (repeat,) = group_runs(read(*folders))
    assert [run.name for run in group.runs] == ["a"]
    assert (repeat.name, repeat.state) == ("b", "repeat")
    assert repeat.reason.endswith(" as a")


def test_split_seed_and_data_make_groups(tmp_path: Path):
    assert len(make_groups(tmp_path, {}, {"split.seed": 1})) == 2
    folders = [write_run(tmp_path / name, PLACES, np.full(30, 5.0), data=name) for name in ("x", "y")]
    groups, _ = group_runs(read(*folders))
    assert find_differences(groups, {}) == {"data": ["data 1", "data 2"]}


def test_runs_of_other_versions_are_in_one_group(tmp_path: Path, monkeypatch):
    monkeypatch.setitem(ADDED_KEYS, "grid.point", "centre")
    later = {"seed": 1, "grid._target_": "geoguesser.before.SquareGrid", "grid.size": 60.0, "grid.point": "centre"}
    groups = make_groups(tmp_path, {}, later, {"grid.point": "weighted"})
    assert [group.seeds for group in groups] == [[0, 1], [0]]
    assert find_differences(groups, load_choices()) == {"grid.point": ["centre", "weighted"]}


class Scans:
    """Data source of a user."""

    source = SourceKind(name="scans", description="scans", folder_keys=("scans",), find_folders=lambda data: [])


@pytest.mark.parametrize(
    ("key", "more"), [("data.roots", {}), ("data.scans", {"data._target_": f"{__name__}.Scans"})]
)
def test_folders_of_data_make_no_groups(tmp_path: Path, key: str, more: dict[str, str]):
    first, second = ({**more, "seed": seed, key: [f"/folder{seed}"]} for seed in (0, 1))
    assert len(make_groups(tmp_path, first, second)) == 1


def test_folds_are_joined_and_seeds_share_places(tmp_path: Path):
    parts = [PLACES[number::3] for number in range(3)]
    folders = [
        write_run(tmp_path / f"{seed}{fold}", parts[fold], np.full(10, 10.0 * seed + fold),
                  changes={**KFOLD, "split.fold": fold, "seed": seed})
        for seed, fold in ((1, 0), (1, 1), (1, 2), (2, 0), (2, 2))
    ]  # fmt: skip
    (group,), _ = group_runs(read(*folders))
    assert (group.seeds, group.folds) == ([1, 2], [0, 1, 2])
    assert set(group.uuid) == set(pd.concat((parts[0], parts[2]))["uuid"])

    errors = dict(zip(group.uuid, group.errors.T.tolist(), strict=True))
    assert errors[parts[0]["uuid"].iloc[0]] == pytest.approx([10.0, 20.0])
    assert errors[parts[2]["uuid"].iloc[4]] == pytest.approx([12.0, 22.0])
    truth = PLACES.set_index("uuid").loc[group.uuid, ["true_latitude", "true_longitude"]]
    np.testing.assert_allclose(group.true_deg, truth)


def test_differences_have_the_words_of_the_command_line(tmp_path: Path):
    regression = "geoguesser.model.heads.regression.RegressionHead.fit"
    groups = make_groups(
        tmp_path,
        {"data.num_workers": 3, "name": "x", "seed": 5},
        {"head._target_": regression, "grid-": None},
        {"grid.size": 30, "callbacks.early_stopping": None},
        {"callbacks.ema._target_": "geoguesser.training.ema.Ema", "trainer.precision": "bf16-mixed"},
    )
    assert find_differences(groups, load_choices()) == {
        "grid.size": ["60", "–", "30", "60"],
        "head": ["classification", "regression", "classification", "classification"],
        "callbacks.early_stopping": ["EarlyStopping", "EarlyStopping", "none", "EarlyStopping"],
        "callbacks.ema": ["–", "–", "–", "Ema"],
        "trainer.precision": ["–", "–", "–", "bf16-mixed"],
    }


def test_keys_that_follow_from_a_choice_are_left_out(tmp_path: Path):
    block = {"split._target_": "geoguesser.data.block_split.BlockSplit", "split.block_km": 20.0}
    assert find_differences(make_groups(tmp_path, {}, block), load_choices()) == {"split": ["random", "blocks"]}


def test_values_are_short_and_without_folders(tmp_path: Path):
    second = {"init_from": "/home/alice/runs/best.ckpt", "lr": 0.1, "flag": False}
    groups = make_groups(tmp_path, {"init_from": None, "lr": 1e-5, "flag": True}, second)
    assert find_differences(groups, {}) == {
        "init_from": ["none", "best.ckpt"],
        "lr": ["1e-05", "0.1"],
        "flag": ["true", "false"],
    }


def test_a_class_that_several_choices_share_has_no_word():
    assert ("backbone", "geoguesser.model.backbone.TimmBackbone") not in load_choices()
