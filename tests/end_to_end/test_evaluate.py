"""predict and evaluate as users run them: on a tiny run of synthetic places."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, TINY, command, compose
from support.waiting import wait_until

from geoguesser.commands.evaluate import run_evaluate
from geoguesser.commands.predict import run_predict
from geoguesser.errors import GeoguesserError

POINT = ["latitude", "longitude"]


@pytest.fixture(scope="module")
def made(tmp_path_factory) -> tuple[Path, Path]:
    """A run with calibration, and the dataset that it was trained on."""
    from geoguesser.commands.train import run_training

    place = tmp_path_factory.mktemp("made")
    run_training(compose([*TINY, "calibration.min_places=2", "split.shares=[0.5,0.25,0.25]"]), place / "run")
    run_training(compose([*TINY, "seed=1", "grid.size=20"]), place / "other")
    run_training(compose([*TINY, "seed=2", "head=regression"]), place / "regression")
    (root,) = (path for path in Path(os.environ["GEOGUESSER_CACHE"]).glob("demo-*-60-0-56") if path.is_dir())
    return place, root


@pytest.mark.slow  # in a process of its own
def test_the_command_prints_figures_and_leaves_its_folder_alone(made, tmp_path: Path):
    place, _ = made
    done = command("geoguesser.evaluate", f"run={place / 'run'}", f"out={tmp_path / 'e'}", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "mean error" in done.stdout
    assert f"Folder: {tmp_path / 'e'}" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["e"]


def test_a_runs_own_test_is_evaluated_again(made, tmp_path: Path, capsys):
    place, _ = made
    run_evaluate(compose([f"run={place / 'run'}", f"out={tmp_path / 'e'}"], "evaluate"))
    assert "mean error" in capsys.readouterr().out
    found = json.loads((tmp_path / "e/evaluation.json").read_text())
    test = json.loads((place / "run/result.json").read_text())["test"]
    assert found["error_km"]["mean"]["value"] == pytest.approx(test["error_km_mean"], abs=1e-5)
    for radius, share in test["share_within_km"].items():
        assert found["share_within_km"][radius]["value"] == share
    names = sorted(path.name for path in (tmp_path / "e").iterdir())
    assert names == ["arrows.png", "errors.csv", "errors.png", "evaluation.json"]
    run_evaluate(compose([f"run={place / 'run'}", f"out={tmp_path / 'e'}", "pictures=false"], "evaluate"))
    assert sorted(path.name for path in (tmp_path / "e").iterdir()) == ["errors.csv", "evaluation.json"]


def test_a_folder_that_holds_other_things_is_left_alone(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "errors.csv").write_text("mine")
    with pytest.raises(GeoguesserError, match=r"must be new, empty, or an earlier evaluation, got 'thesis\.txt'"):
        run_evaluate(compose(["run=/nowhere", f"out={tmp_path}"], "evaluate"))
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_labelled_places_from_files_and_a_table_of_any_program(made, tmp_path: Path):
    """The same places three ways: by the run itself, by its predictions and the truth, and by hand."""
    place, root = made
    base = ["pictures=false", "bootstrap.samples=1000"]
    words = [f"run={place / 'run'}", f"data.roots=[{root}]", f"out={tmp_path / 'a'}", *base]
    own = run_evaluate(compose(words, "evaluate"))
    assert own["places"] == 60
    assert own["cells"]["cell_top5"] >= own["cells"]["cell_top1"]
    assert set(own["sureness"]) >= {"radii", "sets", "expected_error_km_mean"}
    errors = pd.read_csv(tmp_path / "a/errors.csv")
    assert errors["error_km"].mean() == pytest.approx(own["error_km"]["mean"]["value"], abs=1e-5)
    assert {"expected_error_km", "radius_50_km"} <= set(errors)

    run_predict(compose([f"run={place / 'run'}", f"images={root}", f"out={tmp_path / 'p.csv'}"], "predict"))
    files = [f"predictions={tmp_path / 'p.csv'}", f"truth={root / 'data.csv'}", f"out={tmp_path / 'b'}", *base]
    other = run_evaluate(compose(files, "evaluate"))
    for name in ("mean", "median"):
        assert other["error_km"][name]["value"] == pytest.approx(own["error_km"][name]["value"], abs=1e-4)
    assert other["score"]["country"]["value"] == pytest.approx(own["score"]["country"]["value"], abs=0.01)

    wrong = pd.read_csv(tmp_path / "p.csv")
    wrong[POINT] = wrong[POINT[::-1]].to_numpy()
    wrong.to_csv(tmp_path / "w.csv", index=False)
    with pytest.raises(GeoguesserError, match="predictions look swapped"):
        run_evaluate(compose([f"predictions={tmp_path / 'w.csv'}", *files[1:]], "evaluate"))
    wrong[POINT] = wrong[POINT[::-1]].to_numpy()
    wrong[:-3].to_csv(tmp_path / "w.csv", index=False)
    with pytest.raises(GeoguesserError, match=r"every place of the truth, 3 are missing.*on_missing=skip"):
        run_evaluate(compose([f"predictions={tmp_path / 'w.csv'}", *files[1:]], "evaluate"))
    some = run_evaluate(compose([f"predictions={tmp_path / 'w.csv'}", *files[1:], "on_missing=skip"], "evaluate"))
    assert some["places"] == 57
    assert some["counts"]["places_without_a_prediction_left_out"] == 3


def test_one_split_of_a_store(made, tmp_path: Path):
    from geoguesser.commands.prepare import run_prepare

    place, root = made
    store = tmp_path / "store"
    run_prepare(compose([f"data.roots=[{root}]", "image.size=32", f"out={store}", "pictures=false"], "prepare"))
    words = [f"run={place / 'other'}", f"data.path={store}", f"out={tmp_path / 'e'}", "pictures=false"]
    found = run_evaluate(compose([*words, "data.split=test"], "evaluate"))
    truth = pd.read_csv(place / "other/predictions_test.csv").set_index("uuid")
    told = pd.read_csv(tmp_path / "e/errors.csv").set_index("uuid")
    assert sorted(told.index) == sorted(truth.index)
    np.testing.assert_allclose(told.loc[truth.index, POINT], truth[POINT], atol=2e-4)
    assert found["sureness"] is None
    with pytest.raises(GeoguesserError, match="data must hold places of split unused"):
        run_evaluate(compose([*words, "data.split=unused"], "evaluate"))


def test_several_runs_are_an_ensemble(made, tmp_path: Path, caplog):
    place, root = made
    runs = f"run=[{place / 'run'},{place / 'other'},{place / 'regression'}]"
    with caplog.at_level("INFO"):
        told = run_predict(compose([runs, f"images={root}", f"out={tmp_path / 'p.csv'}"], "predict"))
    assert "an ensemble of 3 runs: points by geometric median, for grids differ" in caplog.text
    assert "cell_1" not in told
    single = [
        run_predict(compose([f"run={place / name}", f"images={root}", f"out={tmp_path / 'q.csv'}"], "predict"))
        for name in ("run", "other", "regression")
    ]
    stack = np.stack([one[POINT].to_numpy(dtype=float) for one in single])
    assert (told[POINT].to_numpy(dtype=float) >= stack.min(axis=0) - 0.05).all()
    assert (told[POINT].to_numpy(dtype=float) <= stack.max(axis=0) + 0.05).all()
    words = [runs, f"data.roots=[{root}]", f"out={tmp_path / 'e'}", "pictures=false"]
    found = run_evaluate(compose(words, "evaluate"))
    both = pd.read_csv(tmp_path / "e/errors.csv").set_index("uuid").loc[told["uuid"], POINT]
    np.testing.assert_allclose(both, told[POINT].to_numpy(dtype=float), atol=1e-4)
    assert found["cells"] is None


def test_bad_views_cost_their_row_and_no_other(made, tmp_path: Path, caplog):
    place, root = made
    images = tmp_path / "images"
    shutil.copytree(root / "images", images)
    folders = sorted(images.iterdir())
    (folders[0] / "90.jpg").write_bytes(b"broken")
    for file in folders[1].iterdir():
        file.write_bytes(b"")
    for heading in (0, 90, 180):
        (folders[2] / f"{heading}.jpg").unlink()
    base = [f"run={place / 'run'}", f"images={images}", f"out={tmp_path / 'p.csv'}"]
    with caplog.at_level("INFO"):
        run_predict(compose(base, "predict"))
    assert "60 places written" in caplog.text
    assert "1 left blank" in caplog.text
    assert "of these 1 with 3 of 4 views, 1 with 1 of 4 views, 1 with 0 of 4 views" in caplog.text
    told = pd.read_csv(tmp_path / "p.csv").set_index("uuid")
    first, second, third = (told.loc[folder.name] for folder in folders[:3])
    assert first["views"] == 3
    assert first["broken"].startswith("90.jpg is no whole image")
    assert second[POINT].isna().all()
    assert second["broken"].count("the file is empty") == 4
    assert third["views"] == 1
    assert told[POINT].notna().all(axis=1).sum() == 59
    assert told["cell_1"].dropna().map(float.is_integer).all()
    assert b"0000000" not in (tmp_path / "p.csv").read_bytes().split(b"\n")[1].split(b",")[9]  # cells are whole
    blind = run_predict(compose([*base, "on_bad=prior", "columns=competition"], "predict"))
    assert blind[POINT].notna().all().all()
    assert list(pd.read_csv(tmp_path / "p.csv")) == ["uuid", *POINT]
    whole = run_predict(compose([*base, "missing_views=error", "on_bad=skip"], "predict"))
    assert len(whole) == 57
    told = run_predict(compose([*base, "missing_views=error"], "predict")).set_index("uuid")
    assert told.loc[folders[2].name, "views"] == 1
    assert told.loc[folders[2].name, "broken"] == "has 1 of 4 views"
    assert pd.isna(told.loc[folders[2].name, "latitude"])


def test_places_of_which_nothing_is_seen(made, tmp_path: Path):
    place, _ = made
    (tmp_path / "images" / "p").mkdir(parents=True)
    base = [f"run={place / 'run'}", f"images={tmp_path / 'images'}", f"out={tmp_path / 'p.csv'}"]
    for mode in ("empty", "skip"):
        with pytest.raises(
            GeoguesserError, match="must hold a place with a whole view; of 1 none has: p; holds no"
        ):
            run_predict(compose([*base, f"on_bad={mode}"], "predict"))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
    blind = run_predict(compose([*base, "on_bad=prior"], "predict"))
    assert blind[POINT].notna().all().all()


def test_true_places_far_from_the_region_are_told(tmp_path: Path, caplog):
    true = pd.DataFrame({"uuid": ["a", "b"], "latitude": [16.0, 18.0], "longitude": [45.0, 45.5]})  # swapped
    true.to_csv(tmp_path / "t.csv", index=False)
    files = [f"predictions={tmp_path / 't.csv'}", f"truth={tmp_path / 't.csv'}", f"out={tmp_path / 'e'}"]
    run_evaluate(compose([*files, "pictures=false"], "evaluate"))
    assert "2 of 2 true places lie more than 300 km from region Croatia" in caplog.text


@pytest.mark.slow  # in processes of their own
def test_a_killed_prediction_goes_on(made, tmp_path: Path):
    """Killed in the middle, the same command predicts only what is missing, and the table is the same."""
    place, root = made
    images = tmp_path / "images"
    images.mkdir()
    for number in range(40):  # enough that a kill finds some done
        for folder in sorted((root / "images").iterdir()):
            (images / f"{folder.name}-{number}").symlink_to(folder)
    out, journal = tmp_path / "p.csv", tmp_path / "p.csv.journal"
    words = ["geoguesser.predict", f"run={place / 'run'}", f"images={images}", f"out={out}", "batch_size=4"]
    process = subprocess.Popen(
        [sys.executable, "-m", *words], cwd=ROOT, stderr=subprocess.PIPE, stdout=subprocess.PIPE
    )
    wait_until(
        lambda: process.poll() is not None or (journal.is_file() and journal.read_bytes().count(b"\n") > 20),
        timeout_s=120,
    )
    process.send_signal(signal.SIGKILL)
    process.communicate()
    done = len(journal.read_bytes().splitlines()) - 1
    assert 0 < done < len(list(images.iterdir()))
    assert not out.exists()
    again = command(*words)
    assert again.returncode == 0, again.stderr
    assert f"of {len(list(images.iterdir()))} places are done already" in again.stdout
    assert not journal.exists()
    whole = pd.read_csv(out)
    assert whole["uuid"].tolist() == sorted(path.name for path in images.iterdir())
    assert whole[POINT].notna().all().all()
    by_place = whole.assign(place=whole["uuid"].str[:36]).groupby("place")[POINT]
    assert by_place.std().max().max() < 1e-4  # each place 40 times, partly before the kill and partly after


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "^run must be given, or predictions, got None. Give run=RUN alone"),
        (["run=r", "predictions=p"], "^run must not be given with predictions"),
        (["run=/nowhere"], "^/nowhere must be a run folder"),
        (["run=r", "data.roots=[a]", "data.path=b"], "^data.path must not be given with data.roots"),
        (["run=r", "data.split=all"], "^data.split must be one of train, val, test, unused"),
        (["predictions=/nowhere.csv"], "^predictions=/nowhere.csv must be a file"),
        (["run=r", "confidence=2"], "^confidence must be a number from 0.5 to 0.999"),
        (["run=r", "bootstrap.samples=3"], "^bootstrap.samples must be an integer from 1000"),
        (["run=r", "data.split=val"], "^data.split needs data.roots or data.path, got 'val'"),
        (["run=r", "truth=t.csv"], "^truth is for predictions=FILE, not for a run, got 't.csv'"),
        (["predictions=p.csv", "on_missing=foo"], "^on_missing must be one of error, skip, got 'foo'"),
        (["run=[]"], r"^run must name a run folder, or several, got \[\]"),
        (["run=r", "out=pyproject.toml"], "^out must be a folder, not a file"),
    ],
)
def test_evaluate_explains_bad_input(words: list[str], message: str, monkeypatch):
    monkeypatch.chdir(ROOT)
    with pytest.raises(GeoguesserError, match=message):
        run_evaluate(compose(words, "evaluate"))
