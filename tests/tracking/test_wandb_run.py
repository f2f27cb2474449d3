"""W&B's record of runs, against a server of our own: what is sent, what never is, and what a server can do."""

from __future__ import annotations

import gc
import json
import logging
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import ROOT
from support.wandb_runs import CHOICES, end_client, make_record, train_run, upload_runs
from support.wandb_stub import ENTITY, WandbStub

from geoguesser.errors import ConfigError, GeoguesserError
from geoguesser.tracking.wandb_run import WandbRunLogger


@pytest.fixture(autouse=True)
def fresh_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """W&B's client as in a new process, of a user without a key."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    end_client()


@pytest.fixture
def stub() -> Iterator[WandbStub]:
    """The server."""
    with WandbStub() as server:
        yield server


def user(monkeypatch: pytest.MonkeyPatch, env: dict[str, str]) -> None:
    """Logs the user in."""
    for name, value in env.items():
        monkeypatch.setenv(name, value)


def test_an_online_run_sends_what_its_table_needs(stub, tmp_path, monkeypatch):
    user(monkeypatch, stub.env)
    words = ["grid.size=9", "pictures=true", "seed=5", "logger.mode=online"]
    result = train_run(tmp_path / "run", *words, group="trial")
    (sent,) = stub.runs.values()
    assert (sent["groupName"], sent["jobType"], sent["project"]) == ("trial", "train", "geoguesser")
    assert sent["displayName"] == "grid.size=9 seed=5"
    assert sent["tags"] == ["backbone=efficientnet_lite0", "head=classification", "grid=square"]
    assert sent["exit"] == 0
    config = {key: one["value"] for key, one in sent["config"].items() if key != "_wandb"}
    assert config["grid"] == {"size": 9, "spacing_km": None, "point": "weighted"}
    assert config["choice"] == {name: CHOICES[name] for name in ("head", "grid", "backbone")}
    assert config["split"]["shares"] == "0.8, 0.1, 0.1"
    assert "_target_" not in json.dumps(config)
    summary = sent["summary"]
    for measure in ("error_km_mean", "error_km_median", "score_mean", "cell_top1"):
        assert summary[f"test/{measure}"] == pytest.approx(result["test"][measure], rel=1e-6)
    assert summary["val/error_km_mean"] == pytest.approx(result["val"]["error_km_mean"])
    assert summary["grid/hold_training_places"] == result["grid"]["hold_training_places"]
    assert summary["outcome"] == "done"
    curve = [row for row in sent["history"] if "val/error_km_mean" in row]
    assert [row["epoch"] for row in curve] == [0, 1]
    assert [row["epoch"] for row in sent["history"] if "train/loss" in row] == [0, 1]
    files = set(sent["files"])
    for picture in ("grid", "arrows", "curves"):
        assert any(name.startswith(f"media/images/pictures/{picture}_") for name in files)
    (table,) = (body for name, body in sent["files"].items() if name.startswith("media/table/test/predictions"))
    rows = json.loads(table)
    assert len(rows["data"]) == result["test"]["places"]
    assert rows["columns"][:3] == ["uuid", "latitude", "longitude"]
    # In protobuf numbers: 1 and 2 are names, 5 is the axis (from 1), 7 the summary, where 1 is min and 2 is max.
    defined = sent["config"]["_wandb"]["value"]["m"]
    kinds = {one["1"]: one for one in defined if "1" in one}
    axes = [one.get("1", one.get("2")) for one in defined]
    for measure, best in (("val/error_km_mean", 1), ("test/error_km_mean", 1), ("val/score_mean", 2)):
        assert kinds[measure]["7"] == [best]
        assert axes[kinds[measure]["5"] - 1] == "epoch"


def test_nothing_private_leaves_the_machine_or_lies_in_its_records(stub, tmp_path, monkeypatch):
    """Home, folders, host, user and secrets, in all that the server got and all that an offline run keeps."""
    home = tmp_path / "home-of-ann"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "ann-the-user")
    monkeypatch.setenv("A_TOKEN", "hunter2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py"), "+api_key=hunter2"])
    words = ["grid.size=9", f"init_from={tmp_path}/else", "+api_key=hunter2"]
    config = {"api_key": "hunter2", "data": {"roots": [str(tmp_path)], "note": f"see {tmp_path}/x"}, "seed": 1}
    user(monkeypatch, stub.env)
    for mode in ("online", "offline"):
        made = make_record(tmp_path / mode, config=config, overrides=words, mode=mode)
        made.start()
        made.run.log({"val/error_km_mean": 1.0, "epoch": 0})
        made.finish("done")
    sent = b"\n".join(stub.received)
    end_client()  # which writes what an ended run has not yet written
    (binary,) = tmp_path.glob("offline/wandb/offline-run-*/*.wandb")
    kept = binary.read_bytes()
    assert b"val/error_km_mean" in sent
    assert b"val/error_km_mean" in kept
    for text in (sent, kept):
        assert b"grid.size=9" in text
        private = {str(home), str(tmp_path), "hunter2", "ann-the-user", "train.py", sys.executable}
        for word in private | {str(Path.cwd()), str(ROOT)}:
            assert word.encode() not in text, word
    (run,) = stub.runs.values()
    assert (
        run.get("host", "-") == "-"
    )  # a host's name may be too short to be searched for; the file's: test_cli.py
    assert stub.key.encode() not in sent + kept  # the key is sent in a header, encoded, and kept nowhere


def test_a_wrong_key_is_found_before_any_work(stub, tmp_path, monkeypatch):
    user(monkeypatch, stub.env | {"WANDB_API_KEY": "f" * 40})
    with pytest.raises(
        ConfigError, match=r"^W&B refuses to log you in \(.*user is not logged in\)\. Log in with `w"
    ):
        train_run(tmp_path / "run", "logger.mode=online", "data.places=0")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"status.json"}
    assert not stub.runs


@pytest.mark.parametrize(("key", "reason"), [(None, "No API key configured"), ("xyz", "API key must have 40")])
def test_a_key_that_is_missing_or_none_is_explained(stub, tmp_path, monkeypatch, key, reason):
    user(monkeypatch, stub.env)
    if key is None:
        monkeypatch.delenv("WANDB_API_KEY")
    else:
        monkeypatch.setenv("WANDB_API_KEY", key)
    with pytest.raises(ConfigError, match=rf"{reason}.*use WANDB_MODE=offline or logger=csv\.$"):
        make_record(tmp_path / "run", mode="online")


@pytest.mark.parametrize("kind", ["refused", "silent"])
def test_a_server_that_is_not_there_costs_seconds_and_no_run(tmp_path, monkeypatch, caplog, kind):
    with WandbStub(silent=kind == "silent") as server:
        if kind == "refused":
            server.stop()
        user(monkeypatch, server.env)
        started = time.monotonic()
        result = train_run(tmp_path / "run", "logger.mode=online", "logger.patience_s=2", "seed=3")
        took = time.monotonic() - started
    assert took - result["times"]["total_s"] < 30
    (warning,) = (
        one.getMessage() for one in caplog.records if "W&B" in one.getMessage() and one.levelno > logging.INFO
    )
    assert warning.startswith("W&B does not answer (")
    assert f"upload it later: wandb sync '{tmp_path}/run/wandb/offline-run-*'" in warning
    assert json.loads((tmp_path / "run/result.json").read_text()) == result
    (kept,) = (tmp_path / "run").glob("wandb/offline-run-*")
    with WandbStub() as later:
        upload_runs(later, kept)
    (sent,) = later.runs.values()
    assert sent["summary"]["test/error_km_mean"] == pytest.approx(result["test"]["error_km_mean"])
    assert sent["exit"] == 0


def test_a_server_that_falls_silent_before_the_run_begins_costs_seconds(stub, tmp_path, monkeypatch, caplog):
    user(monkeypatch, stub.env)
    made = make_record(tmp_path / "run", mode="online", patience_s=2)
    stub.silent = True
    started = time.monotonic()
    made.start()
    assert time.monotonic() - started < 15
    assert made.mode == "offline"
    assert made.finish("done").startswith("W&B was offline; to upload this run: wandb sync ")
    (warning,) = (
        one.getMessage() for one in caplog.records if one.levelno > logging.INFO and "W&B" in one.getMessage()
    )
    assert warning.startswith("W&B does not answer (Timed out initializing run")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"mode": "on"}, "logger.mode must be one of offline, online, disabled, shared, dryrun, got 'on'."),
        ({"patience_s": 0}, "logger.patience_s must be a number above 0, got 0."),
        ({"capture_code": "yes"}, "logger.capture_code must be true or false, got 'yes'."),
    ],
)
def test_wrong_values_are_refused_before_wandb_starts(tmp_path, given, message):
    with pytest.raises(ConfigError) as caught:
        make_record(tmp_path, **given)
    assert str(caught.value) == message
    assert list(tmp_path.iterdir()) == []


def test_what_is_asked_for_is_sent(stub, tmp_path, monkeypatch):
    user(monkeypatch, stub.env)
    more = {"capture_code": True, "tags": ["mine", 2], "project": "else", "config": {"seed": 1, "name": "called"}}
    made = make_record(tmp_path / "run", mode="online", **more)
    made.start()
    assert made.finish("done") == f"W&B: {stub.url}/{ENTITY}/else/runs/{made.run.id}"
    (sent,) = stub.runs.values()
    assert sent["host"] == platform.node()
    assert (sent["displayName"], sent["project"], sent["tags"]) == ("called", "else", ["mine", "2"])


def test_disabled_records_nothing(tmp_path):
    made = make_record(tmp_path / "run", mode="disabled")
    made.start()
    made.make_lightning_logger().log_metrics({"val/error_km_mean": 1.0}, step=0)
    assert made.finish("done") is None
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_that_the_server_refuses_is_explained(stub, tmp_path, monkeypatch):
    user(monkeypatch, stub.env)
    stub.refuses = "permission denied"
    made = make_record(tmp_path / "run", mode="online", entity="others", patience_s=5)
    with pytest.raises(GeoguesserError) as caught:
        made.start()
    assert str(caught.value) == (
        "W&B cannot start this run (permission denied). "
        "Check logger.entity and logger.project, or use WANDB_MODE=offline or logger=csv."
    )


def test_a_server_that_dies_costs_seconds_and_no_run(tmp_path, monkeypatch, caplog):
    """Its run is whole in the run folder, equal to that of a run that never knew a server, and can be uploaded."""
    words = ["logger.patience_s=3", "seed=3", "trainer.max_epochs=4"]
    with WandbStub() as server:
        user(monkeypatch, server.env)
        monkeypatch.setattr(WandbRunLogger, "make_lightning_logger", lambda self: (server.stop(), self.logger)[1])
        started = time.monotonic()
        result = train_run(tmp_path / "run", "logger.mode=online", *words)
        took = time.monotonic() - started
    monkeypatch.undo()
    assert took < 40
    warnings = [
        one.getMessage() for one in caplog.records if one.levelno > logging.INFO and "W&B" in one.getMessage()
    ]
    (kept,) = (tmp_path / "run").glob("wandb/run-*")
    (warning,) = warnings
    assert warning.endswith(f"to upload it later: wandb sync --include-online {kept}")
    alone = train_run(tmp_path / "alone", "logger.mode=offline", *words)
    assert {key: alone[key] for key in alone if key != "times"} == {
        key: result[key] for key in result if key != "times"
    }
    for name in ("metrics.csv", "predictions_test.csv"):
        texts = [(tmp_path / folder / name).read_text() for folder in ("run", "alone")]
        assert len(texts[0].splitlines()) == len(texts[1].splitlines())
    with WandbStub() as later:
        upload_runs(later, kept)
    (sent,) = later.runs.values()
    assert sent["summary"]["test/error_km_mean"] == pytest.approx(result["test"]["error_km_mean"])
    assert len([row for row in sent["history"] if "val/error_km_mean" in row]) == 4


@pytest.mark.slow  # in processes of their own
def test_the_states_of_runs_are_right_after_an_upload(tmp_path, monkeypatch):
    """Done, failed, interrupted; and killed, which ends without a word, then begun anew as another run."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for outcome in ("done", "failed", "interrupted"):
        made = make_record(tmp_path / outcome)
        made.start()
        made.run.log({"val/error_km_mean": 5.0, "epoch": 0})
        line = made.finish(outcome)
        assert line == f"W&B was offline; to upload this run: wandb sync {Path(made.run.dir).parent}"
    code = (
        "import os, signal, sys, time; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from support.wandb_runs import make_record\n"
        "made = make_record(Path(sys.argv[1])); made.start()\n"
        "file = next(Path(made.run.dir).parent.glob('*.wandb'))\n"
        "while file.stat().st_size < 1000: made.run.log({'val/error_km_mean': 5.0, 'epoch': 0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "killed"], cwd=ROOT, check=False, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    again = make_record(tmp_path / "killed")
    again.start()
    again.finish("done")
    end_client()
    with WandbStub() as server:
        runs = [*tmp_path.glob("*/wandb/offline-run-*")]
        upload_runs(server, *runs)
    assert len(runs) == len(server.runs) == 5
    assert {run["groupName"] for run in server.runs.values()} == {"g"}
    ends = [(run["exit"], run["summary"].get("outcome")) for run in server.runs.values()]
    assert sorted(ends) == [
        *((0, "done"), (0, "done")),
        (0, "unfinished"),  # W&B's own sync takes a run that ends without a word for a finished one
        *((1, "failed"), (255, "interrupted")),
    ]


def test_a_run_outlives_the_processes_of_wandb(tmp_path, caplog):
    made = make_record(tmp_path / "run")
    made.start()
    started = [one for one in gc.get_objects() if type(one) is subprocess.Popen and one.returncode is None]
    (core,) = (one for one in started if "wandb-core" in str(one.args))
    core.kill()
    core.wait()
    for epoch in range(3):
        made.make_lightning_logger().log_metrics({"val/error_km_mean": 1.0, "epoch": epoch}, step=epoch)
    made.finish("done")
    warnings = [
        one.getMessage() for one in caplog.records if one.levelno > logging.INFO and "W&B" in one.getMessage()
    ]
    assert warnings == ["W&B could not record all of this run (Connection lost). The run goes on.", warnings[-1]]
    assert warnings[-1].startswith("W&B did not take all of this run within 60 s (Connection lost).")
    following = make_record(tmp_path / "next")  # the next job of a sweep is recorded again
    following.start()
    following.finish("done")
    end_client()
    (kept,) = (tmp_path / "next").glob("wandb/offline-run-*/*.wandb")
    assert kept.stat().st_size > 100


def test_an_empty_record_of_a_killed_run_is_in_nobodys_way(tmp_path):
    """One such, and `wandb sync` of a whole sweep uploads nothing."""
    wandb = tmp_path / "run/wandb"
    for name, size in (("offline-run-20260101_000000-aaaaaaaa", 7), ("offline-run-20260101_000001-bbbbbbbb", 8)):
        (wandb / name / "files").mkdir(parents=True)
        (wandb / name / f"run-{name[-8:]}.wandb").write_bytes(bytes(size))
    (wandb / "latest-run").symlink_to("offline-run-20260101_000000-aaaaaaaa")
    made = make_record(tmp_path / "run")
    made.start()
    made.finish("done")
    left = sorted(path.name[-8:] for path in wandb.glob("offline-run-*"))
    assert left == sorted(["bbbbbbbb", made.run.id])
