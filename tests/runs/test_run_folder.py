"""Reader of runs and sweeps: names, states, damaged folders."""

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


def list_names(runs: list) -> list[str]:
    return [run.name for run in runs]


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


def test_jobs_of_a_sweep_are_in_order_and_unfinished_ones_are_listed(sweep: Path):
    runs, unused = read_runs([str(sweep)], read_config)
    assert list_names(runs) == ["sizes/0", "sizes/1", "sizes/2", "sizes/10"]
    assert [run.seed for run in runs] == [0, 1, 2, 10]
    assert [(run.name, run.state, run.reason) for run in unused] == [
        ("sizes/3", "running", ""),
        ("sizes/4", "failed", "ConfigError: grid.size ..."),
    ]
    assert len(runs[0].predictions) == 20
    assert runs[0].fold is None


def test_a_run_named_twice_is_read_once(sweep: Path):
    runs, _ = read_runs([str(sweep / "0"), str(sweep), f"{sweep}/0/"], read_config)
    assert list_names(runs) == ["0", "sizes/1", "sizes/2", "sizes/10"]


def test_names_have_no_more_folders_than_necessary(tmp_path: Path):
    words = [str(tmp_path / name) for name in ("alice/x/run", "alice/y/run", "2026-11-25/09-00-00")]
    for word in words:
        write_run(Path(word), PLACES, ERRORS)
    runs, _ = read_runs(words, read_config)
    assert list_names(runs) == ["x/run", "y/run", "2026-11-25/09-00-00"]
    assert list_names(read_runs(words[:1], read_config)[0]) == ["run"]


def test_folders_without_runs_are_refused(tmp_path: Path):
    with pytest.raises(MissingFileError, match="nowhere must be a run folder, or a sweep's"):
        read_runs([str(tmp_path / "nowhere")], read_config)
    (tmp_path / "empty" / "sub").mkdir(parents=True)
    with pytest.raises(MissingFileError, match=r"empty must be a run folder with status\.json"):
        read_runs([str(tmp_path / "empty")], read_config)


def test_unfinished_runs_are_refused_with_their_states(tmp_path: Path):
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
        ("config.yaml", "a: [", "broken/config.yaml must be YAML"),
        ("config.yaml", "- a", "broken/config.yaml must be the config of a run, with an integer seed."),
        ("status.json", "[]", "its status.json has no state"),
    ],
)
def test_a_damaged_run_is_unused_with_its_reason(tmp_path: Path, file: str, content: str, reason: str):
    good = write_run(tmp_path / "good", PLACES, ERRORS)
    broken = write_run(tmp_path / "broken", PLACES, ERRORS)
    (broken / file).write_text(content)
    runs, unused = read_runs([str(good), str(broken)], read_config)
    assert list_names(runs) == ["good"]
    (run,) = unused
    assert run.state == "unreadable"
    assert reason in run.reason
    assert str(tmp_path) not in run.reason


def test_repeated_places_are_refused(tmp_path: Path):
    good = write_run(tmp_path / "good", PLACES, ERRORS)
    twice = write_run(tmp_path / "twice", PLACES.assign(uuid="one"), ERRORS)
    _, (run,) = read_runs([str(good), str(twice)], read_config)
    assert run.reason.startswith("twice/predictions_test.csv must name each place once, got 'one'")


def test_ids_are_texts(tmp_path: Path):
    odd = PLACES.assign(uuid=[f"{number:05d}" for number in range(19)] + ["NA"])
    runs, _ = read_runs([str(write_run(tmp_path / "run", odd, ERRORS))], read_config)
    assert runs[0].predictions["uuid"].tolist() == odd["uuid"].tolist()
