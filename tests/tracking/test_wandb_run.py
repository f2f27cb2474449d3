"""W&B runs against a local server: what is sent, what is not, and how runs survive a failing server."""

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
from typing import Any

import pytest
from conftest import ROOT
from support.wandb_runs import end_client, make_record, train_run, upload_runs
from support.wandb_stub import ENTITY, WandbStub

from geoguesser.errors import ConfigError, GeoguesserError
from geoguesser.tracking.wandb_run import WandbRunLogger

ERROR = "val/error_km_mean"


@pytest.fixture(autouse=True)
def fresh_client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Gives the user no key, and ends W&B's client afterwards, as at the end of a process."""
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    for name in ("WANDB_API_KEY", "WANDB_BASE_URL"):
        monkeypatch.delenv(name, raising=False)
    yield
    end_client()


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbStub]:
    """Server to which the user is logged in."""
    with WandbStub() as server:
        log_in(monkeypatch, server)
        yield server


def log_in(monkeypatch: pytest.MonkeyPatch, server: WandbStub) -> None:
    for name, value in server.env.items():
        monkeypatch.setenv(name, value)


def start(folder: Path, **options: Any) -> WandbRunLogger:
    run_logger = make_record(folder, **options)
    run_logger.start()
    return run_logger


def get_warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    records = [record for record in caplog.records if record.levelno > logging.INFO]
    return [record.getMessage() for record in records if "W&B" in record.getMessage()]


def upload(*records: Path) -> list[dict[str, Any]]:
    """Uploads records to a new server and returns its runs."""
    with WandbStub() as server:
        upload_runs(server, *records)
    return list(server.runs.values())


def test_an_online_run_sends_what_its_table_needs(stub, tmp_path):
    overrides = ["grid.size=9", "pictures=true", "seed=5", "logger.mode=online"]
    result = train_run(tmp_path / "run", *overrides, group="trial")

    (run,) = stub.runs.values()
    assert (run["groupName"], run["jobType"], run["project"]) == ("trial", "train", "geoguesser")
    assert run["displayName"] == "grid.size=9 seed=5"
    assert run["tags"] == ["backbone=efficientnet_lite0", "head=classification", "grid=square"]
    assert run["exit"] == 0

    assert run["config"]["grid"]["value"] == {"size": 9, "spacing_km": None, "point": "weighted"}
    summary = run["summary"]
    assert summary["test/error_km_mean"] == pytest.approx(result["test"]["error_km_mean"], rel=1e-6)
    assert summary[ERROR] == pytest.approx(result["val"]["error_km_mean"])
    assert summary["grid/hold_training_places"] == result["grid"]["hold_training_places"]
    assert summary["outcome"] == "done"

    for metric in (ERROR, "train/loss"):
        assert [row["epoch"] for row in run["history"] if metric in row] == [0, 1]
    for picture in ("grid", "arrows", "curves"):
        assert any(name.startswith(f"media/images/pictures/{picture}_") for name in run["files"])
    (table,) = (body for name, body in run["files"].items() if name.startswith("media/table/test/predictions"))
    rows = json.loads(table)
    assert len(rows["data"]) == result["test"]["places"]
    assert rows["columns"][:3] == ["uuid", "latitude", "longitude"]

    # Protobuf fields: 1 and 2 are names, 5 is the axis (from 1), 7 the summary with 1 for min and 2 for max.
    metrics = run["config"]["_wandb"]["value"]["m"]
    by_name = {metric["1"]: metric for metric in metrics if "1" in metric}
    names = [metric.get("1", metric.get("2")) for metric in metrics]
    for metric, statistic in ((ERROR, 1), ("test/error_km_mean", 1), ("val/score_mean", 2)):
        assert by_name[metric]["7"] == [statistic]
        assert names[by_name[metric]["5"] - 1] == "epoch"


def test_nothing_private_leaves_the_machine_or_is_in_its_records(stub, tmp_path, monkeypatch):
    home = tmp_path / "home-of-ann"
    home.mkdir()
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("USER", "ann-the-user")
    monkeypatch.setenv("A_TOKEN", "hunter2")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "argv", [str(tmp_path / "train.py"), "+api_key=hunter2"])
    overrides = ["grid.size=9", f"init_from={tmp_path}/else", "+api_key=hunter2"]
    config = {"api_key": "hunter2", "data": {"roots": [str(tmp_path)], "note": f"see {tmp_path}/x"}, "seed": 1}
    for mode in ("online", "offline"):
        run_logger = start(tmp_path / mode, config=config, overrides=overrides, mode=mode)
        run_logger.run.log({ERROR: 1.0, "epoch": 0})
        run_logger.finish("done")

    # The end of the client writes the rest of the record.
    sent = b"\n".join(stub.received)
    end_client()
    (file,) = tmp_path.glob("offline/wandb/offline-run-*/*.wandb")
    private = {str(home), str(tmp_path), "hunter2", "ann-the-user", "train.py", sys.executable, str(ROOT)}
    for content in (sent, file.read_bytes()):
        assert ERROR.encode() in content
        assert b"grid.size=9" in content
        assert [word for word in private if word.encode() in content] == []

    # The name of a host may be too short for a search. The key is sent in a header, encoded, and kept nowhere.
    (run,) = stub.runs.values()
    assert run.get("host", "-") == "-"
    assert stub.key.encode() not in sent + file.read_bytes()


def test_a_wrong_key_is_found_before_any_work(stub, tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    with pytest.raises(ConfigError, match=r"^W&B refuses to log you in \(.*not logged in\).*`wandb login`"):
        train_run(tmp_path / "run", "logger.mode=online", "data.places=0")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"status.json"}
    assert not stub.runs


@pytest.mark.parametrize(("key", "reason"), [("", "No API key configured"), ("xyz", "API key must have 40")])
def test_a_missing_or_malformed_key_is_explained(stub, tmp_path, monkeypatch, key, reason):
    monkeypatch.setenv("WANDB_API_KEY", key)
    with pytest.raises(ConfigError, match=rf"{reason}.*WANDB_MODE=offline or logger=csv"):
        make_record(tmp_path / "run", mode="online")


@pytest.mark.parametrize("kind", ["refused", pytest.param("silent", marks=pytest.mark.slow)])
def test_without_a_server_a_run_is_recorded_offline_after_seconds(tmp_path, monkeypatch, caplog, kind):
    with WandbStub(silent=kind == "silent") as server:
        if kind == "refused":
            server.stop()
        log_in(monkeypatch, server)
        started = time.monotonic()
        result = train_run(tmp_path / "run", "logger.mode=online", "logger.patience_s=2", "seed=3")
        assert time.monotonic() - started - result["times"]["total_s"] < 30

    (warning,) = get_warnings(caplog)
    assert warning.startswith("W&B does not answer (")
    assert f"wandb sync '{tmp_path}/run/wandb/offline-run-*'" in warning
    assert json.loads((tmp_path / "run/result.json").read_text()) == result

    (run,) = upload(*(tmp_path / "run").glob("wandb/offline-run-*"))
    assert run["summary"]["test/error_km_mean"] == pytest.approx(result["test"]["error_km_mean"])
    assert run["exit"] == 0


@pytest.mark.slow
def test_a_server_that_stops_responding_before_the_start_costs_seconds(stub, tmp_path, caplog):
    run_logger = make_record(tmp_path / "run", mode="online", patience_s=2)
    stub.silent = True
    started = time.monotonic()
    run_logger.start()
    assert time.monotonic() - started < 15
    assert run_logger.mode == "offline"
    assert "wandb sync" in run_logger.finish("done")
    (warning,) = get_warnings(caplog)
    assert warning.startswith("W&B does not answer (Timed out initializing run")


@pytest.mark.slow
def test_a_server_that_dies_during_a_run_costs_seconds(tmp_path, monkeypatch, caplog):
    """The run has the results of one without a server, and can be uploaded."""
    overrides = ["logger.patience_s=3", "seed=3", "trainer.max_epochs=4"]
    with WandbStub() as server:
        log_in(monkeypatch, server)
        monkeypatch.setattr(
            WandbRunLogger, "make_lightning_logger", lambda run_logger: (server.stop(), run_logger.logger)[1]
        )
        started = time.monotonic()
        result = train_run(tmp_path / "run", "logger.mode=online", *overrides)
        assert time.monotonic() - started < 40
    monkeypatch.undo()

    (record,) = (tmp_path / "run").glob("wandb/run-*")
    (warning,) = get_warnings(caplog)
    assert warning.endswith(f"wandb sync --include-online {record}")

    offline = train_run(tmp_path / "offline", "logger.mode=offline", *overrides)
    assert offline | {"times": None} == result | {"times": None}
    for name in ("metrics.csv", "predictions_test.csv"):
        counts = {len((tmp_path / folder / name).read_text().splitlines()) for folder in ("run", "offline")}
        assert len(counts) == 1

    (run,) = upload(record)
    assert run["summary"]["test/error_km_mean"] == pytest.approx(result["test"]["error_km_mean"])
    assert len([row for row in run["history"] if ERROR in row]) == 4


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"mode": "on"}, r"^logger\.mode must be one of offline, online, .*got 'on'"),
        ({"patience_s": 0}, r"^logger\.patience_s must be a number above 0, got 0"),
        ({"capture_code": "yes"}, r"^logger\.capture_code must be true or false, got 'yes'"),
    ],
)
def test_wrong_values_are_refused_before_wandb_starts(tmp_path, options, message):
    with pytest.raises(ConfigError, match=message):
        make_record(tmp_path, **options)
    assert list(tmp_path.iterdir()) == []


def test_options_are_sent(stub, tmp_path):
    config = {"seed": 1, "name": "called"}
    options = {"capture_code": True, "tags": ["mine", 2], "project": "else", "config": config}
    run_logger = start(tmp_path / "run", mode="online", **options)
    assert run_logger.finish("done") == f"W&B: {stub.url}/{ENTITY}/else/runs/{run_logger.run.id}"
    (run,) = stub.runs.values()
    assert run["host"] == platform.node()
    assert (run["displayName"], run["project"], run["tags"]) == ("called", "else", ["mine", "2"])


def test_disabled_records_nothing(tmp_path):
    run_logger = start(tmp_path / "run", mode="disabled")
    run_logger.make_lightning_logger().log_metrics({ERROR: 1.0}, step=0)
    assert run_logger.finish("done") is None
    assert list((tmp_path / "run").iterdir()) == []


def test_a_run_that_the_server_refuses_is_explained(stub, tmp_path):
    stub.refuses = "permission denied"
    message = r"^W&B cannot start this run \(permission denied\).*logger\.entity and logger\.project"
    with pytest.raises(GeoguesserError, match=message):
        start(tmp_path / "run", mode="online", entity="others", patience_s=5)


@pytest.mark.slow
def test_the_states_of_runs_are_right_after_an_upload(tmp_path, monkeypatch):
    """Done, failed, interrupted, and killed; the killed one is followed by a new run in the same folder."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    for outcome in ("done", "failed", "interrupted"):
        run_logger = start(tmp_path / outcome)
        run_logger.run.log({ERROR: 5.0, "epoch": 0})
        line = run_logger.finish(outcome)
        assert line == f"W&B was offline; to upload this run: wandb sync {Path(run_logger.run.dir).parent}"

    code = (
        "import os, signal, sys; from pathlib import Path; sys.path.insert(0, 'tests')\n"
        "from support.wandb_runs import make_record\n"
        "run_logger = make_record(Path(sys.argv[1])); run_logger.start()\n"
        "file = next(Path(run_logger.run.dir).parent.glob('*.wandb'))\n"
        "while file.stat().st_size < 1000: run_logger.run.log({'val/error_km_mean': 5.0, 'epoch': 0})\n"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    killed = subprocess.run([sys.executable, "-c", code, tmp_path / "killed"], cwd=ROOT, check=False, timeout=100)
    assert killed.returncode == -signal.SIGKILL
    start(tmp_path / "killed").finish("done")
    end_client()

    # W&B's upload gives a run without an end the exit code 0.
    runs = upload(*tmp_path.glob("*/wandb/offline-run-*"))
    assert {run["groupName"] for run in runs} == {"g"}
    assert sorted((run["exit"], run["summary"].get("outcome")) for run in runs) == [
        *((0, "done"), (0, "done")),
        (0, "unfinished"),
        *((1, "failed"), (255, "interrupted")),
    ]


def test_a_run_goes_on_without_the_processes_of_wandb(tmp_path, caplog):
    run_logger = start(tmp_path / "run")
    processes = [item for item in gc.get_objects() if type(item) is subprocess.Popen and item.returncode is None]
    (core,) = (process for process in processes if "wandb-core" in str(process.args))
    core.kill()
    core.wait()
    for epoch in range(3):
        run_logger.make_lightning_logger().log_metrics({ERROR: 1.0, "epoch": epoch}, step=epoch)
    run_logger.finish("done")

    first, last = get_warnings(caplog)
    assert first.startswith("W&B could not record all of this run (Connection lost).")
    assert last.startswith("W&B did not receive the complete run within 60 s (Connection lost).")

    # The next job of a sweep is recorded again.
    start(tmp_path / "next").finish("done")
    end_client()
    (file,) = (tmp_path / "next").glob("wandb/offline-run-*/*.wandb")
    assert file.stat().st_size > 100


def test_an_empty_record_of_a_killed_run_is_removed(tmp_path):
    wandb = tmp_path / "run/wandb"
    for name, size in (("offline-run-20260101_000000-aaaaaaaa", 7), ("offline-run-20260101_000001-bbbbbbbb", 8)):
        (wandb / name / "files").mkdir(parents=True)
        (wandb / name / f"run-{name[-8:]}.wandb").write_bytes(bytes(size))
    (wandb / "latest-run").symlink_to("offline-run-20260101_000000-aaaaaaaa")

    run_logger = start(tmp_path / "run")
    run_logger.finish("done")
    ids = sorted(path.name[-8:] for path in wandb.glob("offline-run-*"))
    assert ids == sorted(["bbbbbbbb", run_logger.run.id])
