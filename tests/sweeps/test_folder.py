"""Folder of a sweep: records of jobs, and locks of their folders."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from geoguesser.sweeps.folder import (
    COMMAND_VARIABLE,
    SweepFolder,
    clear_folder,
    hold_folder,
    is_running,
    read_state,
)

HOLD = """
import sys, time
from pathlib import Path
from geoguesser.sweeps.folder import hold_folder
with hold_folder(Path(sys.argv[1])) as is_free:
    print(is_free, flush=True)
    time.sleep(60)
"""


@pytest.fixture(autouse=True)
def _no_command(monkeypatch):
    # Sets the variable first, so that the value which `begin` sets is removed at the end.
    monkeypatch.setenv(COMMAND_VARIABLE, "left over")
    monkeypatch.delenv(COMMAND_VARIABLE)


def test_jobs_of_a_command_record_to_it_from_any_process(tmp_path: Path):
    sweep = SweepFolder.begin(tmp_path)
    sweep.record("abc", "running", number=0, overrides=["seed=0"])
    code = (
        "import sys; from pathlib import Path; from geoguesser.sweeps.folder import SweepFolder; "
        "SweepFolder(Path(sys.argv[1])).record('def', 'done', number=1, overrides=['seed=1'])"
    )
    subprocess.run([sys.executable, "-c", code, tmp_path], check=True, env=os.environ)
    sweep.record("abc", "done", number=0, overrides=["seed=0"])
    sweep.record("abc", "duplicate", number=2, overrides=["seed=0"])
    assert [(record["number"], record["job"], record["outcome"]) for record in sweep.outcomes()] == [
        (0, "abc", "done"),
        (1, "def", "done"),
        (2, "abc", "duplicate"),
    ]
    # Not the record of the duplicate.
    assert sweep.find_outcome("abc")["number"] == 0
    assert sweep.find_outcome("ghi") is None


def test_a_node_that_lost_the_environment_takes_the_latest_command(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(COMMAND_VARIABLE, "20260101-000000-aaaaaa")
    SweepFolder(tmp_path).record("abc", "failed", number=0, overrides=[])
    (tmp_path / ".commands" / "20260101-000000-aaaaaa.json").write_text("{}")
    second = SweepFolder.begin(tmp_path)
    monkeypatch.delenv(COMMAND_VARIABLE)
    assert SweepFolder(tmp_path).command == second.command
    assert second.outcomes() == []
    assert SweepFolder(tmp_path / "nowhere").command == "0"


def test_one_process_holds_a_folder_until_it_ends(tmp_path: Path):
    other = subprocess.Popen([sys.executable, "-c", HOLD, tmp_path], stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    with hold_folder(tmp_path) as is_free:
        assert not is_free
    assert is_running(tmp_path)
    other.send_signal(signal.SIGKILL)
    other.wait()
    other.stdout.close()
    assert not is_running(tmp_path)
    with hold_folder(tmp_path) as is_free:
        assert is_free


def test_a_job_whose_process_was_killed_counts_as_interrupted(tmp_path: Path):
    sweep = SweepFolder.begin(tmp_path)
    (tmp_path / "abc").mkdir()
    sweep.record("abc", "running", number=0, overrides=[])
    with hold_folder(tmp_path / "abc"):
        assert sweep.outcomes()[0]["outcome"] == "running"
    assert sweep.outcomes()[0]["outcome"] == "interrupted"


@pytest.mark.parametrize(
    ("text", "state"),
    [
        (None, "none"),
        ('{"state": "done"}', "done"),
        ('{"state": "failed", "error": "x"}', "failed"),
        ("", "interrupted"),
        ('{"sta', "interrupted"),
        ("[]", "interrupted"),
        ("{}", "interrupted"),
    ],
)
def test_states_are_read_also_from_incomplete_files(text: str | None, state: str, tmp_path: Path):
    if text is not None:
        (tmp_path / "status.json").write_text(text)
    assert read_state(tmp_path) == state


def test_results_of_a_job_are_removed_except_its_logs(tmp_path: Path):
    for name in ("checkpoints", ".hydra", "wandb", "pictures"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text("x")
    for name in ("train.log", "error.log", "result.json", "status.json", ".lock"):
        (tmp_path / name).write_text("x")
    elsewhere = tmp_path.parent / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "mine").write_text("x")
    (tmp_path / "link").symlink_to(elsewhere)
    clear_folder(tmp_path)
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == [".hydra", ".lock", "error.log", "train.log", "wandb"]
    assert (elsewhere / "mine").exists()
