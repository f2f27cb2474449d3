"""A sweep's page in W&B: what it shows of which runs, and what is in its way."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, command, compose
from support.wandb_runs import end_client, train_run, upload_runs
from support.wandb_stub import ENTITY, WandbStub

from geoguesser.commands.dashboard import run_dashboard
from geoguesser.errors import ConfigError, DataError, GeoguesserError


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbStub]:
    """The server, with the user logged in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    with WandbStub() as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        yield server
    end_client()


def page(*words: str) -> str:
    """Makes the page as the command line would."""
    return run_dashboard(compose(list(words), "dashboard"))


def errors(val: float, test: float) -> dict[str, Any]:
    """A summary."""
    return {"val/error_km_mean": val, "test/error_km_mean": test}


def panels(spec: dict[str, Any]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Of a saved page: each grid's runs and its panels."""
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    return [(grid["runSets"][0], grid["panelBankSectionConfig"]["panels"]) for grid in grids]


def asked(runset: dict[str, Any]) -> set[tuple[str, str, str]]:
    """The filters of a set of runs."""
    return {(one["key"]["name"], one["op"], one["value"]) for one in runset["filters"]["filters"]}


def test_the_page_of_an_uploaded_sweep(stub, tmp_path, monkeypatch):
    """Two jobs trained offline, uploaded by `wandb sync`, and the page made by its command."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    words = {"few": "grid.size=9", "many": "grid.size=20"}
    results = {
        name: train_run(tmp_path / "multirun/trial" / name, word, "trainer.max_epochs=1", group="trial")
        for name, word in words.items()
    }
    end_client()
    upload_runs(stub, *tmp_path.glob("multirun/trial/*/wandb/offline-run-*"))
    done = command("geoguesser.dashboard", "sweep=multirun/trial", cwd=tmp_path, env=stub.env)
    assert done.returncode == 0, done.stderr
    assert f"2 runs of trial: {stub.url}/{ENTITY}/geoguesser/reports/Sweep-trial--view1" in done.stdout
    (view,) = stub.views
    assert (view["type"], view["displayName"], view["projectName"]) == ("runs", "Sweep trial", "geoguesser")
    (every, comparison), (_, curves), (only, maps) = panels(view["spec"])
    assert asked(every) == {("group", "=", "trial")}
    assert every["sort"]["keys"] == [
        {"key": {"section": "summary", "name": "val/error_km_mean"}, "ascending": True}
    ]
    assert every["runFeed"]["columnOrder"][-1] == "config:grid.value.size"
    shown = {panel["viewType"]: panel["config"] for panel in comparison}
    axes = [column["accessor"] for column in shown["Parallel Coordinates Plot"]["columns"]]
    assert axes == ["config:grid.value.size", "summary:val/error_km_mean", "summary:test/error_km_mean"]
    scatter = shown["Scatter Plot"]
    assert (scatter["xAxis"], scatter["yAxis"]) == (
        "summary:grid/hold_training_places",
        "summary:test/error_km_mean",
    )
    assert shown["Bar Chart"]["metrics"] == ["test/error_km_mean"]
    assert [(panel["config"]["xAxis"], panel["config"]["metrics"]) for panel in curves] == [
        ("epoch", ["val/error_km_mean"]),
        ("epoch", ["train/loss", "val/loss"]),
    ]
    first = min(results, key=lambda name: results[name]["val"]["error_km_mean"])
    (identity,) = (run["id"] for run in stub.runs.values() if run["displayName"].startswith(words[first]))
    assert asked(only) == {("group", "=", "trial"), ("name", "=", identity)}
    assert [panel["config"]["mediaKeys"] for panel in maps] == [["pictures/arrows"], ["pictures/grid"]]


def put(stub: WandbStub, name: str, group: str = "trial") -> None:
    """A run that the server has."""
    config = {"choice": {"value": {"head": name}}}
    stub.run(name).update(
        {"project": "geoguesser", "groupName": group, "config": config, "summary": errors(5.0, 6.0), "exit": 0}
    )


def offline(folder: Path, name: str, *, synced: bool = False) -> None:
    """What an offline run leaves."""
    kept = folder / name / "wandb" / f"offline-run-20260101_000000-{name}"
    kept.mkdir(parents=True)
    (kept / f"run-{name}.wandb").write_bytes(b"")
    if synced:
        (kept / f"run-{name}.wandb.synced").write_bytes(b"")


def test_help_is_quick_and_needs_neither_torch_nor_wandb():
    code = "import sys, geoguesser.dashboard; sys.exit(bool({'torch', 'wandb'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, cwd=ROOT).returncode == 0
    done = command("geoguesser.dashboard", "--help")
    assert done.returncode == 0
    assert "python -m geoguesser.dashboard sweep_dir=multirun/NAME" in done.stdout


def test_runs_without_cells_have_no_panel_of_cells(stub):
    put(stub, "regression")
    page("sweep_dir=trial", "title=Mine")
    (view,) = stub.views
    assert view["displayName"] == "Mine"
    assert [panel["viewType"] for panel in panels(view["spec"])[0][1]] == [
        "Parallel Coordinates Plot",
        "Bar Chart",
    ]


def test_a_sweep_that_is_not_uploaded_is_explained(stub, tmp_path):
    put(stub, "other", group="another")
    offline(tmp_path / "multirun/trial", "a")
    offline(tmp_path / "multirun/trial", "b")
    with pytest.raises(DataError) as caught:
        page("sweep_dir=trial")
    assert str(caught.value) == (
        f"W&B's project {ENTITY}/geoguesser must have runs of the group trial. "
        "2 runs in multirun/trial are not uploaded. "
        "To upload them: ls -d 'multirun/trial'/*/wandb/offline-run-* | xargs -n 1 wandb sync"
    )
    assert not stub.views


def test_a_sweep_that_nobody_knows_is_explained(stub):
    for entity in ("null", "team"):
        with pytest.raises(
            DataError, match=r"must have runs of the group trial\. Check sweep_dir, project and entity\.$"
        ):
            page("sweep_dir=trial", f"entity={entity}")


def test_runs_that_are_not_uploaded_are_counted(stub, tmp_path, caplog):
    put(stub, "a")
    offline(tmp_path / "multirun/trial", "a", synced=True)
    offline(tmp_path / "multirun/trial", "b")
    page(f"sweep_dir={tmp_path / 'multirun/trial'}")
    (warning,) = (one.getMessage() for one in caplog.records if one.levelname == "WARNING")
    assert warning.startswith(f"1 runs in {tmp_path}/multirun/trial are not uploaded, ")


def test_a_missing_package_names_the_extra(stub, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", None)
    with pytest.raises(ConfigError, match=r"Install the extra: pip install 'geoguesser\[dashboard\]'$"):
        page("sweep_dir=trial")


def test_a_wrong_key_and_a_silent_server_are_explained(stub, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    with pytest.raises(ConfigError, match=r"^W&B refuses to log you in \(.*\)\. Log in with `wandb login`\.$"):
        page("sweep_dir=trial")
    stub.stop()
    end_client()
    with pytest.raises(GeoguesserError, match=r"^W&B does not answer \(.*\)\. Try again later\.$"):
        page("sweep_dir=trial", "patience_s=1")


def test_a_sweep_by_date_and_time_is_thefind_group_that_name(tmp_path: Path, monkeypatch):
    from geoguesser.commands.dashboard import find_group

    folder = tmp_path / "multirun/2026-11-25/10-00-00"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_group(str(folder))[0] == "2026-11-25/10-00-00"
    assert find_group("2026-11-25/10-00-00")[0] == "2026-11-25/10-00-00"
    assert find_group("trial")[0] == "trial"
    assert find_group("elsewhere")[0] == "elsewhere"


def test_the_sweep_must_be_named():
    with pytest.raises(ConfigError, match=r"^sweep_dir must be the folder of a sweep, or its name, got None"):
        run_dashboard(compose([], "dashboard"))
