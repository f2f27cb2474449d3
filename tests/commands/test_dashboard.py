"""Page of a sweep in W&B: its content, and errors."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import command, compose
from support.wandb_runs import end_client, train_run, upload_runs
from support.wandb_stub import ENTITY, WandbStub

from geoguesser.commands.dashboard import find_group, run_dashboard
from geoguesser.errors import ConfigError, DataError, GeoguesserError

VAL_ERROR, TEST_ERROR = "val/error_km_mean", "test/error_km_mean"


@pytest.fixture
def stub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbStub]:
    """Server to which the user is logged in."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_CONFIG_DIR", str(tmp_path / "settings"))
    with WandbStub() as server:
        for name, value in server.env.items():
            monkeypatch.setenv(name, value)
        yield server
    end_client()


def make_page(*overrides: str) -> str:
    return run_dashboard(compose(["sweep_dir=trial", *overrides], "dashboard"))


def get_panels(spec: dict[str, Any]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Returns the set of runs and the panels of each grid of a saved page."""
    grids = [block["metadata"] for block in spec["blocks"] if block["type"] == "panel-grid"]
    return [(grid["runSets"][0], grid["panelBankSectionConfig"]["panels"]) for grid in grids]


def get_filters(runset: dict[str, Any]) -> set[tuple[str, str, str]]:
    return {(item["key"]["name"], item["op"], item["value"]) for item in runset["filters"]["filters"]}


def add_run(stub: WandbStub, name: str, group: str = "trial") -> None:
    """Adds a run to the server."""
    stub.run(name).update(
        project="geoguesser",
        groupName=group,
        config={"choice": {"value": {"head": name}}},
        summary={VAL_ERROR: 5.0, TEST_ERROR: 6.0},
        exit=0,
    )


def add_record(folder: Path, name: str, *, synced: bool = False) -> None:
    """Adds the files of an offline run."""
    record = folder / name / "wandb" / f"offline-run-20260101_000000-{name}"
    record.mkdir(parents=True)
    for suffix in ("", ".synced") if synced else ("",):
        (record / f"run-{name}.wandb{suffix}").write_bytes(b"")


@pytest.mark.slow
def test_the_page_of_an_uploaded_sweep(stub, tmp_path, monkeypatch):
    """Two jobs are trained offline and uploaded by `wandb sync`; the command makes the page."""
    monkeypatch.setenv("WANDB_MODE", "offline")
    overrides = {"few": "grid.size=9", "many": "grid.size=20"}
    results = {
        name: train_run(tmp_path / "multirun/trial" / name, override, "trainer.max_epochs=1", group="trial")
        for name, override in overrides.items()
    }
    end_client()
    upload_runs(stub, *tmp_path.glob("multirun/trial/*/wandb/offline-run-*"))

    # The key's earlier name.
    done = command("geoguesser.dashboard", "sweep=multirun/trial", cwd=tmp_path, env=stub.env)
    assert done.returncode == 0, done.stderr
    assert "sweep is now sweep_dir" in done.stderr
    assert f"2 runs of trial: {stub.url}/{ENTITY}/geoguesser/reports/Sweep-trial--view1" in done.stdout

    (view,) = stub.views
    assert (view["type"], view["displayName"], view["projectName"]) == ("runs", "Sweep trial", "geoguesser")
    (every, comparison), (_, curves), (only, maps) = get_panels(view["spec"])
    assert get_filters(every) == {("group", "=", "trial")}
    assert every["sort"]["keys"] == [{"key": {"section": "summary", "name": VAL_ERROR}, "ascending": True}]
    assert every["runFeed"]["columnOrder"][-1] == "config:grid.value.size"

    panels = {panel["viewType"]: panel["config"] for panel in comparison}
    axes = [column["accessor"] for column in panels["Parallel Coordinates Plot"]["columns"]]
    assert axes == ["config:grid.value.size", f"summary:{VAL_ERROR}", f"summary:{TEST_ERROR}"]
    scatter = panels["Scatter Plot"]
    assert scatter["xAxis"] == "summary:grid/hold_training_places"
    assert scatter["yAxis"] == f"summary:{TEST_ERROR}"
    assert panels["Bar Chart"]["metrics"] == [TEST_ERROR]
    metrics = [(panel["config"]["xAxis"], panel["config"]["metrics"]) for panel in curves]
    assert metrics == [("epoch", [VAL_ERROR]), ("epoch", ["train/loss", "val/loss"])]

    best = min(results, key=lambda name: results[name]["val"]["error_km_mean"])
    (best_id,) = (run["id"] for run in stub.runs.values() if run["displayName"].startswith(overrides[best]))
    assert get_filters(only) == {("group", "=", "trial"), ("name", "=", best_id)}
    assert [panel["config"]["mediaKeys"] for panel in maps] == [["pictures/arrows"], ["pictures/grid"]]


def test_runs_without_cells_have_no_panel_of_cells(stub):
    add_run(stub, "regression")
    make_page("title=Mine")
    (view,) = stub.views
    assert view["displayName"] == "Mine"
    types = [panel["viewType"] for panel in get_panels(view["spec"])[0][1]]
    assert types == ["Parallel Coordinates Plot", "Bar Chart"]


def test_a_sweep_that_is_not_uploaded_is_explained(stub, tmp_path):
    add_run(stub, "other", group="another")
    add_record(tmp_path / "multirun/trial", "a")
    add_record(tmp_path / "multirun/trial", "b")
    message = (
        rf"{ENTITY}/geoguesser must have runs of the group trial\. 2 runs in multirun/trial .*'multirun/trial'/\*"
    )
    with pytest.raises(DataError, match=message):
        make_page()
    assert not stub.views


@pytest.mark.parametrize("entity", ["null", "team"])
def test_an_unknown_sweep_is_explained(stub, entity):
    with pytest.raises(DataError, match=r"must have runs of .* trial\. Check sweep_dir, project and entity"):
        make_page(f"entity={entity}")


def test_runs_that_are_not_uploaded_are_counted(stub, tmp_path, caplog):
    folder = tmp_path / "multirun/trial"
    add_run(stub, "a")
    add_record(folder, "a", synced=True)
    add_record(folder, "b")
    make_page(f"sweep_dir={folder}")
    (warning,) = (record.getMessage() for record in caplog.records if record.levelname == "WARNING")
    assert warning.startswith(f"1 runs in {folder} are not uploaded")


def test_a_missing_package_names_the_extra(stub, monkeypatch):
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports", None)
    with pytest.raises(ConfigError, match=r"pip install 'geoguesser\[dashboard\]'"):
        make_page()


def test_a_wrong_key_and_a_silent_server_are_explained(stub, monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "f" * 40)
    with pytest.raises(ConfigError, match=r"^W&B refuses to log you in \(.*`wandb login`\.$"):
        make_page()
    stub.stop()
    end_client()
    with pytest.raises(GeoguesserError, match=r"^W&B does not answer \("):
        make_page("patience_s=1")


def test_a_sweep_by_date_and_time_is_the_group_of_that_name(tmp_path: Path, monkeypatch):
    folder = tmp_path / "multirun/2026-11-25/10-00-00"
    folder.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path)
    assert find_group(str(folder))[0] == "2026-11-25/10-00-00"
    for name in ("2026-11-25/10-00-00", "trial", "elsewhere"):
        assert find_group(name)[0] == name
