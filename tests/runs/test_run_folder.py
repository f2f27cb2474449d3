"""Reading runs and sweeps back: names, states, what is wrong with a folder."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from support.run_folders import make_places, write_run

from geoguesser.commands.compare import read_config
from geoguesser.errors import DataError, MissingFileError
from geoguesser.runs.run_folder import read_runs

PLACES = make_places(20)
ERRORS = np.linspace(1, 40, 20)


def names(found: list) -> list[str]:
    return [one.name for one in found]


@pytest.fixture
def sweep(tmp_path: Path) -> Path:
    for job in (0, 1, 2, 10):
        write_run(tmp_path / "sizes" / str(job), PLACES, ERRORS, changes={"seed": job})
    write_run(tmp_path / "sizes" / "3", PLACES, ERRORS, state="running")
    failed = write_run(tmp_path / "sizes" / "4", PLACES, ERRORS, state="failed")
    (failed / "status.json").write_text(json.dumps({"state": "failed", "error": "ConfigError: grid.size ..."}))
    (tmp_path / "sizes" / ".optuna").mkdir()
    (tmp_path / "sizes" / "notes").mkdir()
    (tmp_path / "sizes" / "summary.csv").write_text("a,b\n")
    return tmp_path / "sizes"


def test_a_sweep_gives_its_jobs_in_order_and_names_those_that_are_not_done(sweep: Path):
    runs, unused = read_runs([str(sweep)], read_config)
    assert names(runs) == ["sizes/0", "sizes/1", "sizes/2", "sizes/10"]
    assert [run.seed for run in runs] == [0, 1, 2, 10]
    assert [(one.name, one.state, one.reason) for one in unused] == [
        ("sizes/3", "running", ""),
        ("sizes/4", "failed", "ConfigError: grid.size ..."),
    ]
    assert len(runs[0].predictions) == 20
    assert runs[0].fold is None


def test_a_run_that_is_named_twice_is_one(sweep: Path):
    runs, _ = read_runs([str(sweep / "0"), str(sweep), f"{sweep}/0/"], read_config)
    assert names(runs) == ["0", "sizes/1", "sizes/2", "sizes/10"]


def test_names_hold_no_more_folders_than_they_need(tmp_path: Path):
    for parent in ("alice/x", "alice/y", "2026-11-25"):
        write_run(tmp_path / parent / ("09-00-00" if parent[0] == "2" else "run"), PLACES, ERRORS)
    words = [
        str(tmp_path / "alice/x/run"),
        str(tmp_path / "alice/y/run"),
        str(tmp_path / "2026-11-25" / "09-00-00"),
    ]
    runs, _ = read_runs(words, read_config)
    assert names(runs) == ["x/run", "y/run", "2026-11-25/09-00-00"]
    assert names(read_runs(words[:1], read_config)[0]) == ["run"]


def test_a_word_that_is_no_run_is_refused(tmp_path: Path):
    with pytest.raises(
        MissingFileError, match=r"nowhere must be a run folder, or a sweep's\. Runs lie in outputs/"
    ):
        read_runs([str(tmp_path / "nowhere")], read_config)
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    with pytest.raises(
        MissingFileError, match=r"empty must be a run folder with status\.json, or hold such folders"
    ):
        read_runs([str(tmp_path / "empty")], read_config)


def test_nothing_left_is_an_error_that_names_the_states(tmp_path: Path):
    write_run(tmp_path / "s" / "0", PLACES, ERRORS, state="interrupted")
    write_run(tmp_path / "s" / "1", PLACES, ERRORS, state="failed")
    with pytest.raises(DataError, match=r"one that is done, but s/0 is interrupted.*; s/1 is failed.*\."):
        read_runs([str(tmp_path / "s")], read_config)


@pytest.mark.parametrize(
    ("file", "content", "reason"),
    [
        ("result.json", "{", "Expecting property name"),
        ("result.json", '{"format": 7}', "broken/result.json must be of format 1, got 7."),
        ("result.json", '{"format": 1, "test": {}}', "broken/result.json must have the part val."),
        ("predictions_test.csv", "uuid,latitude\n", "broken/predictions_test.csv must have the column longitude."),
        ("config.yaml", "a: [", "broken/config.yaml cannot be read"),
        ("config.yaml", "- a", "broken/config.yaml must be the config of a run, with its seed."),
        ("status.json", "[]", "its status.json has no state"),
    ],
)
def test_a_damaged_run_is_left_out_with_its_reason(tmp_path: Path, file: str, content: str, reason: str):
    good = write_run(tmp_path / "good", PLACES, ERRORS)
    broken = write_run(tmp_path / "broken", PLACES, ERRORS)
    (broken / file).write_text(content)
    runs, unused = read_runs([str(good), str(broken)], read_config)
    assert names(runs) == ["good"]
    (one,) = unused
    assert one.state == "unreadable"
    assert reason in one.reason
    assert str(tmp_path) not in one.reason


def test_a_place_that_was_predicted_twice_is_found(tmp_path: Path):
    good = write_run(tmp_path / "good", PLACES, ERRORS)
    twice = write_run(tmp_path / "twice", PLACES.assign(uuid="one"), ERRORS)
    _, (one,) = read_runs([str(good), str(twice)], read_config)
    assert one.reason == "twice/predictions_test.csv must name each place once, got 'one'."


def test_ids_stay_as_they_are_written(tmp_path: Path):
    odd = PLACES.assign(uuid=[f"{number:05d}" for number in range(19)] + ["NA"])
    runs, _ = read_runs([str(write_run(tmp_path / "run", odd, ERRORS))], read_config)
    assert runs[0].predictions["uuid"].tolist() == odd["uuid"].tolist()
