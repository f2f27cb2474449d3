"""Run folders, sweeps, stores and exported folders of version 0.1.0 still work: tests/compat/README.md."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, command

import geoguesser

# All commands run once, which takes about a minute.
pytestmark = pytest.mark.slow

HERE = Path(__file__).resolve().parent
CHOICES = [
    "data=places",
    "data.roots=[places]",
    "data.num_workers=0",
    "split.shares=[0.6,0.2,0.2]",
    "image=px56",
    "density=coarse",
    "backbone.name=test_convnext",
    "backbone.pretrained=false",
    "backbone.source=hub",
    "trainer=cpu",
    "logger=csv",
    "pictures=false",
]
SWEEP = ["--multirun", *CHOICES, "epochs=2", "grid.size=5,9", "sweep.name=again"]
FROM_STORE = [word for word in CHOICES if not word.startswith(("data", "split"))]
PREDICT = ["images=more/images", "device=cpu"]
JOBS = ("5fb9fe34fb", "cf98e7891d")
COMMANDS = {
    "compare": ["compare", "runs=[run,sweep]", "out=compare.html", "pictures=false"],
    "report": ["report", "run=run", "out=report.html", "thumbnails=2", "examples=1", "device=cpu"],
    "predict_run": ["predict", "run=run", *PREDICT, "out=predict_run.csv"],
    "predict_export": ["predict", "run=export", *PREDICT, "out=predict_export.csv"],
    "evaluate": ["evaluate", "run=run", "out=evaluate", "pictures=false", "device=cpu"],
    "evaluate_places": ["evaluate", "run=export", "data.roots=[more]", "out=more_evaluated", "device=cpu"],
    "repeat": ["train", *SWEEP, "hydra.sweep.dir=sweep"],
    "repeat_edited": ["train", *SWEEP, "hydra.sweep.dir=edited_sweep"],
    "report_edited": ["report", "run=edited_run", "thumbnails=0", "examples=1", "device=cpu"],
    "compare_edited": ["compare", "runs=[run,edited_run,edited_sweep]", "out=edited.html", "pictures=false"],
    "resume": ["train", "resume=edited_run", "epochs=5"],
    "init_from": ["train", *CHOICES, "epochs=1", "init_from=run", "hydra.run.dir=started"],
    "same": ["train", *CHOICES, "epochs=3", "seed=1", "hydra.run.dir=same"],
    "compare_same": ["compare", "runs=[run,same]", "out=same.html", "pictures=false"],
    "train_store": ["train", *FROM_STORE, "data=store", "data.path=store", "epochs=3", "hydra.run.dir=stored"],
    "extend": [
        "prepare", "data.roots=[places,more]", "split.shares=[0.6,0.2,0.2]", "image=px56", "out=grown",
        "pictures=false",
    ],
}  # fmt: skip

# A later version: two keys have other names, and one is new.
HISTORY = {
    "RENAMED_KEYS": {"uncertainty.share": "calibration.fraction", "split.portions": "split.shares"},
    "ADDED_KEYS": {"calibration.min_places": 20},
}


def rewrite(folder: Path) -> None:
    """Rewrites the recorded configs and overrides as if a version with other names had written them."""
    for file in folder.rglob("config.yaml"):
        text = file.read_text()
        text, moved = re.subn(r"geoguesser\.[a-z_.]+\.(?=\w+(\.fit)?$)", "geoguesser.before.", text, flags=re.M)
        text, numbers = re.subn(r"(\b(?:size|patience|max_epochs): \d+)$", r"\1.0", text, flags=re.M)
        text, renamed = re.subn("calibration:|shares:", lambda found: RENAMES[found[0]], text)
        text, removed = re.subn(r" *fewest: 20\n", "", text)
        assert (moved >= 15, numbers >= 3, renamed, removed) == (True, True, 2, 1)
        file.write_text(text)
    for file in folder.rglob("overrides.yaml"):
        text = file.read_text()
        assert "split.shares=" in text
        file.write_text(text.replace("split.shares=", "split.portions="))


RENAMES = {"calibration:": "share:", "shares:": "portions:"}


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Folder with a copy of all artefacts, in which all commands have run."""
    home = tmp_path_factory.mktemp("compat") / "home"
    shutil.copytree(HERE / "v0_1", home)
    for name, source in (("edited_run", "run"), ("edited_sweep", "sweep"), ("grown", "store")):
        shutil.copytree(home / source, home / name)
    for name in ("edited_run", "edited_sweep"):
        rewrite(home / name)

    (home / "commands.json").write_text(json.dumps({"commands": COMMANDS, "history": HISTORY}))
    env = {key: value for key, value in os.environ.items() if not key.startswith("COVERAGE_")}
    env["PYTHONPATH"] = os.pathsep.join([str(ROOT), env.get("PYTHONPATH", "")])
    subprocess.run(
        [sys.executable, str(HERE / "fork_commands.py"), "commands.json"],
        cwd=home,
        env=env,
        check=True,
        timeout=600,
    )
    return home


@pytest.fixture
def printed(home: Path):
    """Function that checks that a command succeeded, and returns what it printed."""
    exits = json.loads((home / "exits.json").read_text())

    def read(name: str) -> str:
        text = (home / f"{name}.log").read_text()
        assert exits[name] == 0, text
        assert "Traceback" not in text
        return text

    return read


def test_runs_and_sweeps_are_compared(home: Path, printed):
    printed("compare")
    page = (home / "compare.html").read_text()
    for name in ("run", *(f"sweep/{job}" for job in JOBS)):
        assert name in page


def test_a_run_is_reported(home: Path, printed):
    assert "page: report.html" in printed("report")
    assert (home / "report.html").stat().st_size > 50_000


@pytest.mark.parametrize("source", ["run", "export"])
def test_predictions_are_those_of_the_earlier_version(home: Path, printed, source: str):
    printed(f"predict_{source}")
    table = pd.read_csv(home / f"predict_{source}.csv").set_index("uuid")
    expected = pd.read_csv(home / "expected" / "predictions_more.csv").set_index("uuid")
    assert len(expected) == 8

    columns = [name for name in expected if expected[name].dtype == float]
    assert {"latitude", "longitude", "cell_1_probability"} <= set(columns)
    np.testing.assert_allclose(table.loc[expected.index, columns], expected[columns], atol=1e-3)


def test_an_exported_folder_is_loaded_in_python(home: Path):
    model = geoguesser.load(home / "export")
    expected = pd.read_csv(home / "expected" / "predictions_more.csv").iloc[0]
    folder = home / "more" / "images" / expected["uuid"]
    coords_deg = model.predict(folder).coords_deg
    np.testing.assert_allclose(coords_deg, [[expected["latitude"], expected["longitude"]]], atol=1e-3)


def test_a_run_is_evaluated(home: Path, printed):
    assert "51.5 km" in printed("evaluate")  # mean error in km that run/result.json recorded
    assert "8 places" in printed("evaluate_places")


def test_a_run_goes_on(home: Path, printed):
    printed("resume")
    history = pd.read_csv(home / "edited_run" / "metrics.csv")
    assert history["epoch"].max() == 4
    recorded = pd.read_csv(HERE / "v0_1" / "run" / "metrics.csv")
    np.testing.assert_allclose(history["val/error_km_mean"][:3], recorded["val/error_km_mean"])


def test_a_run_starts_from_the_network_of_an_old_one(home: Path, printed):
    printed("init_from")
    assert json.loads((home / "started" / "status.json").read_text()) == {"state": "done"}


def test_a_run_of_the_same_configuration_joins_the_group_of_the_old_one(home: Path, printed):
    printed("same")
    printed("compare_same")
    (row,) = pd.read_csv(home / "same.csv").to_dict("records")
    assert (row["runs"], row["seeds"]) == ("run same", "0 1")


def test_a_store_is_trained_from_and_extended(home: Path, printed):
    printed("train_store")
    predictions = [pd.read_csv(home / run / "predictions_test.csv") for run in ("run", "stored")]
    pd.testing.assert_frame_equal(
        *(table.sort_values("uuid", ignore_index=True) for table in predictions), atol=1e-3
    )

    printed("extend")
    before, after = (json.loads((home / store / "store.json").read_text()) for store in ("store", "grown"))
    assert (before["places"], after["places"]) == (24, 32)
    old = pd.read_parquet(home / "store" / before["table"]).set_index("uuid")
    new = pd.read_parquet(home / "grown" / after["table"]).set_index("uuid")
    assert new.loc[old.index, "store_split"].tolist() == old["store_split"].tolist()


def test_runs_and_exports_are_served(home: Path, monkeypatch):
    from starlette.testclient import TestClient
    from support.app_server import build_app

    from geoguesser.commands.serve import load_models

    monkeypatch.chdir(home)
    models = load_models(["run", "export", "edited_run"], "cpu")
    assert models[0].game_places is not None
    assert len(models[0].game_places) == 3
    place = min((home / "more" / "images").iterdir())
    headings = {"north": 0, "east": 90, "south": 180, "west": 270}
    files = {name: ("photo", (place / f"{at}.jpg").read_bytes(), "image/jpeg") for name, at in headings.items()}
    with TestClient(build_app(models), base_url="http://127.0.0.1") as client:
        assert client.post("/api/v1/predict", files=files).status_code == 200


def check_nothing_ran(sweep: Path) -> None:
    """Checks that the second command of a sweep recorded both jobs as done before, and left them as they were."""
    assert {file.parent.name for file in sweep.glob("*/status.json")} == set(JOBS)

    folders = sorted(path for path in (sweep / ".commands").iterdir() if path.is_dir())
    assert len(folders) == 2
    outcomes = [json.loads(file.read_text()) for file in sorted(folders[-1].iterdir())]
    assert [(outcome["job"], outcome["outcome"]) for outcome in outcomes] == [(job, "kept") for job in JOBS]

    for job in JOBS:
        result = (sweep / job / "result.json").read_bytes()
        assert result == (HERE / "v0_1" / "sweep" / job / "result.json").read_bytes()


@pytest.mark.parametrize(("command_name", "sweep"), [("repeat", "sweep"), ("repeat_edited", "edited_sweep")])
def test_a_repeated_sweep_runs_nothing_again(home: Path, printed, command_name: str, sweep: str):
    printed(command_name)
    check_nothing_ran(home / sweep)


@pytest.mark.slow  # joblib's processes import torch
def test_a_sweep_that_is_repeated_in_parallel_runs_nothing_again(tmp_path: Path):
    for name in ("places", "sweep"):
        shutil.copytree(HERE / "v0_1" / name, tmp_path / name)
    parallel = ["hydra.sweep.dir=sweep", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = command(
        "geoguesser.train", *SWEEP, *parallel, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, traced=False
    )
    assert done.returncode == 0, done.stderr
    check_nothing_ran(tmp_path / "sweep")


def test_a_run_under_other_names_is_the_same_run(home: Path, printed):
    printed("report_edited")
    printed("compare_edited")
    table = pd.read_csv(home / "edited.csv")
    assert len(table) == 3
    assert "edited_run" not in table.to_string()
