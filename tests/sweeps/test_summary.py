"""Summary of a sweep: table, plot, messages and exit code."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from omegaconf import OmegaConf
from PIL import Image

from geoguesser.errors import ConfigError
from geoguesser.reporting.run.sweep_plot import draw_sweep, shorten_label
from geoguesser.sweeps import callback as command
from geoguesser.sweeps.callback import check_sweep_name, finish_sweep
from geoguesser.sweeps.folder import COMMAND_VARIABLE, SweepFolder
from geoguesser.sweeps.summary import Summary


def read_width(path: Path) -> int:
    with Image.open(path) as image:
        return image.width


@pytest.fixture
def sweep(tmp_path: Path, monkeypatch) -> SweepFolder:
    """Makes a sweep of three finished jobs, a failed job, a killed job and a duplicate."""
    monkeypatch.setenv(COMMAND_VARIABLE, "left over")
    sweep = SweepFolder.begin(tmp_path / "a sweep")
    jobs = {
        "aaa": (["head=classification", "grid.size=60"], {"grid": {}, "loss": {}}, 40.0),
        "bbb": (["head=classification", "grid.size=30"], {"grid": {}, "loss": {}}, 38.5),
        "ccc": (["head=regression", "grid.size=60"], {"head": {}}, 70.25),
        "ddd": (["head=classification", "grid.size=-1"], None, None),
        "eee": (["head=classification", "+grid.size=120"], {"grid": {}}, None),
    }
    for number, (name, (varied, config, error)) in enumerate(jobs.items()):
        words = [*varied, "density=coarse", "logger=csv"]
        folder = sweep.path / name
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create(words), folder / ".hydra/overrides.yaml")
        if config is not None:
            OmegaConf.save(OmegaConf.create(config), folder / "config.yaml")
        state, details = "done", {}
        if error is not None:
            test = {"error_km_mean": error + 1, "error_km_median": error / 2, "score_mean": 3000.0}
            result = {"val": {"error_km_mean": error}, "test": test, "epochs": 7, "times": {"total_s": 1.5}}
            (folder / "result.json").write_text(json.dumps(result))
        elif name == "ddd":
            state, details = "failed", {"error": "ConfigError: grid.size must be positive,\ngot -1."}
        else:
            state = "running"
        (folder / "status.json").write_text(json.dumps({"state": state, **details}))
        sweep.record(name, state, number=number, overrides=words, error=details.get("error"))
    # A folder without a status is no job.
    (sweep.path / "notes").mkdir()
    sweep.record("ccc", "duplicate", number=5, overrides=["head=regression", "grid.size=30", "logger=csv"])
    return sweep


def test_the_table_has_a_row_per_job_and_the_varied_keys(sweep: SweepFolder):
    """Regression has no grid, and the density is the same in all other jobs."""
    summary = Summary.read(sweep)
    summary.write()
    table = pd.read_csv(sweep.path / "summary.csv", dtype={"grid.size": str}, keep_default_na=False)
    assert list(table.columns) == [
        *("job", "state", "head", "grid.size", "val_error_km_mean", "test_error_km_mean"),
        *("test_error_km_median", "test_error_km_p90", "test_score_mean", "epochs", "seconds", "error"),
    ]
    assert table["job"].tolist() == ["bbb", "aaa", "ccc", "ddd", "eee"]
    assert table["state"].tolist() == ["done", "done", "done", "failed", "interrupted"]
    assert table["grid.size"].tolist() == ["30", "60", "", "-1", "120"]
    assert table["val_error_km_mean"].tolist()[:3] == ["38.5000000", "40.0000000", "70.2500000"]
    assert table["epochs"].tolist() == ["7", "7", "7", "", ""]
    assert table["error"].tolist()[3] == "ConfigError: grid.size must be positive, got -1."
    assert read_width(sweep.path / "summary.png") == 1200


def test_a_varied_key_with_the_name_of_a_result_has_a_column_of_its_own(tmp_path: Path):
    """A sweep over epochs=10,20 ended with a traceback."""
    sweep = SweepFolder.begin(tmp_path / "sweep")
    for epochs in (10, 20):
        folder = sweep.path / str(epochs)
        (folder / ".hydra").mkdir(parents=True)
        OmegaConf.save(OmegaConf.create([f"epochs={epochs}"]), folder / ".hydra/overrides.yaml")
        result = {"val": {"error_km_mean": 40.0}, "test": {"error_km_mean": "damaged"}, "epochs": epochs - 3}
        (folder / "result.json").write_text(json.dumps(result))
        (folder / "status.json").write_text('{"state": "done"}')

    summary = Summary.read(sweep)
    summary.write()
    summary.show()
    table = pd.read_csv(sweep.path / "summary.csv")
    assert table["epochs (override)"].tolist() == [10, 20]
    assert table["epochs"].tolist() == [7, 17]
    assert table["test_error_km_mean"].isna().all()


def test_the_end_names_duplicates_and_failed_jobs(sweep: SweepFolder, capsys, monkeypatch):
    monkeypatch.setattr(command, "_started", [(sweep, "a sweep")])
    assert finish_sweep() == 1
    out, err = capsys.readouterr()
    assert "3 done, 1 duplicates, 1 failed, 1 interrupted" in out
    assert "#5 (head=regression grid.size=30) is the same as #2" in out
    assert "2 of the jobs failed or did not end:" in err
    assert "#3 ddd (head=classification grid.size=-1): ConfigError: grid.size must be positive" in err
    assert "#4 eee (head=classification +grid.size=120): interrupted" in err
    assert "sweep.name=a sweep runs the missing jobs" in err
    # The sweep has ended.
    assert finish_sweep() == 0


def test_a_full_disk_does_not_hide_failed_jobs(sweep: SweepFolder, capsys, monkeypatch):
    def full(self: Summary) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr(Summary, "write", full)
    monkeypatch.setattr(command, "_started", [(sweep, "elsewhere")])
    assert finish_sweep() == 1
    err = capsys.readouterr().err
    assert "the summary cannot be written: No space left on device" in err
    assert "#3 ddd" in err
    assert f"hydra.sweep.dir={sweep.path} runs the missing jobs" in err


def test_a_sweep_without_results_has_no_plot(tmp_path: Path, monkeypatch):
    monkeypatch.setenv(COMMAND_VARIABLE, "left over")
    empty = SweepFolder.begin(tmp_path)
    summary = Summary.read(empty)
    summary.write()
    summary.show()
    assert (tmp_path / "summary.csv").read_text().startswith("job,state,val_error_km_mean")
    assert not (tmp_path / "summary.png").exists()


@pytest.mark.parametrize("name", ["luck", "2026-11-25/10-00-00", "with space", 7])
def test_names_of_sweeps(name):
    assert check_sweep_name(name) == str(name)


@pytest.mark.parametrize("name", [None, "", "/abs", "a/../b", "..", "a//b", "a\\b", "a\nb", "./a"])
def test_a_sweep_stays_below_multirun(name):
    with pytest.raises(ConfigError, match=r"^sweep\.name must be a folder's name below multirun/, got "):
        check_sweep_name(name)


@pytest.mark.parametrize(
    ("value", "shown"),
    [("0.0012520653814999472", "0.001252"), ("60", "60"), ("px112", "px112"), ("[0.1,0.2]", "[0.1,0.2]")],
)
def test_numbers_of_a_search_are_shortened(value: str, shown: str):
    assert shorten_label(value) == shown


@pytest.mark.parametrize("jobs", [1, 3, 70])
def test_the_plot_of_any_number_of_jobs_is_deterministic(jobs: int, tmp_path: Path):
    rows = [
        {
            "job": f"j{number}",
            "val_error_km_mean": 40.0 + number,
            "test_error_km_mean": 42.0 - number / 2,
            "optimizer.lr": str(10 ** -(1 + number % 4)),
            "fusion": ("mean", "a very long name of a choice", "")[number % 3],
            "split.fold": str(number % 5),
            "seed": str(number),
        }
        for number in range(jobs)
    ]
    varied = ["optimizer.lr", "fusion", "split.fold", "seed"] if jobs > 1 else []
    for name in ("a.png", "b.png"):
        draw_sweep(tmp_path / name, table=pd.DataFrame(rows), varied=varied, left_out=2, title="Sweep $x$")
    assert read_width(tmp_path / "a.png") == 1200
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "b.png").read_bytes()
