"""Commands `evaluate` and `predict` on tiny runs of synthetic places."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from conftest import command, compose
from support.background import start_command
from support.waiting import wait_until

from geoguesser.commands.evaluate import run_evaluate
from geoguesser.commands.predict import run_predict
from geoguesser.commands.prepare import run_prepare
from geoguesser.errors import GeoguesserError

POINT = ["latitude", "longitude"]
QUICK = ("pictures=false", "bootstrap.samples=1000")

# Shares of the splits of the runs in `sweep`, so that a store has the same test places.
SHARES = "split.shares=[0.4,0.2,0.4]"


def evaluate(*words: str) -> dict[str, Any]:
    return run_evaluate(compose(list(words), "evaluate"))


def predict(*words: str) -> pd.DataFrame:
    return run_predict(compose(list(words), "predict"))


def test_the_test_of_a_run_is_evaluated_again(sweep: Path, tmp_path: Path, capsys):
    run, out = sweep / "0", tmp_path / "e"
    evaluate(f"run={run}", f"out={out}")
    assert "mean error" in capsys.readouterr().out

    evaluation = json.loads((out / "evaluation.json").read_text())
    test = json.loads((run / "result.json").read_text())["test"]
    assert evaluation["error_km"]["mean"]["value"] == pytest.approx(test["error_km_mean"], abs=1e-5)
    for radius, share in test["share_within_km"].items():
        assert evaluation["share_within_km"][radius]["value"] == share

    assert {path.name for path in out.iterdir()} == {"arrows.png", "errors.csv", "errors.png", "evaluation.json"}
    evaluate(f"run={run}", f"out={out}", *QUICK)
    assert sorted(path.name for path in out.iterdir()) == ["errors.csv", "evaluation.json"]


def test_a_folder_with_other_files_is_refused(tmp_path: Path):
    (tmp_path / "thesis.txt").write_text("mine")
    (tmp_path / "errors.csv").write_text("mine")
    with pytest.raises(
        GeoguesserError, match=r"^out=.* must not exist yet, be empty, or hold an earlier evaluation.*thesis\.txt"
    ):
        evaluate("run=/nowhere", f"out={tmp_path}")
    assert {path.read_text() for path in tmp_path.iterdir()} == {"mine"}


def test_a_run_and_a_table_of_its_predictions_have_the_same_metrics(sweep: Path, demo_root: Path, tmp_path: Path):
    run = f"run={sweep / '0'}"
    expected = evaluate(run, f"data.roots=[{demo_root}]", f"out={tmp_path / 'a'}", *QUICK)
    assert expected["places"] == 60
    assert expected["cells"]["cell_top5"] >= expected["cells"]["cell_top1"]
    assert set(expected["sureness"]) >= {"radii", "sets", "expected_error_km_mean"}
    errors = pd.read_csv(tmp_path / "a/errors.csv")
    assert errors["error_km"].mean() == pytest.approx(expected["error_km"]["mean"]["value"], abs=1e-5)
    assert {"expected_error_km", "radius_50_km"} <= set(errors)

    table, file = predict(run, f"images={demo_root}", f"out={tmp_path / 'p.csv'}"), tmp_path / "p.csv"
    words = (f"predictions={file}", f"truth={demo_root / 'data.csv'}", f"out={tmp_path / 'b'}", *QUICK)
    evaluation = evaluate(*words)
    for name in ("mean", "median"):
        assert evaluation["error_km"][name]["value"] == pytest.approx(
            expected["error_km"][name]["value"], abs=1e-4
        )
    assert evaluation["score"]["country"]["value"] == pytest.approx(
        expected["score"]["country"]["value"], abs=0.01
    )

    table[:-3].to_csv(file, index=False)
    with pytest.raises(GeoguesserError, match=r"^predictions=.*3 are missing.*on_missing=skip"):
        evaluate(*words)
    evaluation = evaluate(*words, "on_missing=skip")
    assert evaluation["places"] == 57
    assert evaluation["counts"]["places_without_a_prediction_left_out"] == 3


def test_one_split_of_a_store(sweep: Path, demo_root: Path, tmp_path: Path):
    run, store = sweep / "2", tmp_path / "store"
    words = [f"data.roots=[{demo_root}]", "image.size=32", SHARES, f"out={store}", "pictures=false"]
    run_prepare(compose(words, "prepare"))
    words = (f"run={run}", f"data.path={store}", f"out={tmp_path / 'e'}", *QUICK)
    evaluation = evaluate(*words, "data.split=test")

    expected = pd.read_csv(run / "predictions_test.csv").set_index("uuid")
    errors = pd.read_csv(tmp_path / "e/errors.csv").set_index("uuid")
    assert sorted(errors.index) == sorted(expected.index)
    np.testing.assert_allclose(errors.loc[expected.index, POINT], expected[POINT], atol=2e-4)
    assert evaluation["sureness"] is None
    with pytest.raises(GeoguesserError, match=r"^data must hold places of split unused"):
        evaluate(*words, "data.split=unused")


def test_several_runs_are_an_ensemble(sweep: Path, demo_root: Path, tmp_path: Path, caplog):
    runs = f"run=[{sweep / '0'},{sweep / '1'},{sweep / '2'}]"
    with caplog.at_level("INFO"):
        table = predict(runs, f"images={demo_root}", f"out={tmp_path / 'p.csv'}").set_index("uuid")
    assert "ensemble of 3 runs: geometric median of points" in caplog.text
    assert "cell_1" not in table

    single = [pd.read_csv(sweep / job / "predictions_test.csv").set_index("uuid")[POINT] for job in "012"]
    points = np.stack([member.loc[single[0].index] for member in single])
    ensemble = table.loc[single[0].index, POINT].to_numpy(dtype=float)
    assert (ensemble >= points.min(axis=0) - 0.05).all()
    assert (ensemble <= points.max(axis=0) + 0.05).all()

    evaluation = evaluate(runs, f"data.roots=[{demo_root}]", f"out={tmp_path / 'e'}", *QUICK)
    evaluated = pd.read_csv(tmp_path / "e/errors.csv").set_index("uuid").loc[table.index, POINT]
    np.testing.assert_allclose(evaluated, table[POINT].to_numpy(dtype=float), atol=1e-4)
    assert evaluation["cells"] is None


def test_damaged_views_affect_only_their_place(sweep: Path, demo_root: Path, tmp_path: Path, caplog):
    images = tmp_path / "images"
    sources = sorted((demo_root / "images").iterdir())[:6]
    broken, empty, lonely, *_ = (shutil.copytree(source, images / source.name) for source in sources)
    (broken / "90.jpg").write_bytes(b"broken")
    for file in empty.iterdir():
        file.write_bytes(b"")
    for heading in (0, 90, 180):
        (lonely / f"{heading}.jpg").unlink()

    words = (f"run={sweep / '0'}", f"images={images}", f"out={tmp_path / 'p.csv'}")
    with caplog.at_level("INFO"):
        predict(*words)
    assert "6 places written" in caplog.text
    assert "1 left empty" in caplog.text
    assert "of these 1 with 3 of 4 views, 1 with 1 of 4 views, 1 with 0 of 4 views" in caplog.text

    table = pd.read_csv(tmp_path / "p.csv").set_index("uuid")
    assert table.loc[broken.name, "views"] == 3
    assert table.loc[broken.name, "broken"].startswith("90.jpg is not a complete image")
    assert table.loc[empty.name, POINT].isna().all()
    assert table.loc[empty.name, "broken"].count("the file is empty") == 4
    assert table.loc[lonely.name, "views"] == 1
    assert table[POINT].notna().all(axis=1).sum() == 5
    # Cells are written as integers although a row is blank.
    assert b"0000000" not in (tmp_path / "p.csv").read_bytes().split(b"\n")[1].split(b",")[9]

    prior = predict(*words, "on_bad=prior", "columns=competition")
    assert prior[POINT].notna().all().all()
    assert list(pd.read_csv(tmp_path / "p.csv")) == ["uuid", *POINT]
    assert len(predict(*words, "missing_views=error", "on_bad=skip")) == 3
    with pytest.raises(GeoguesserError, match=f"place {empty.name} cannot be answered: 0.jpg .*on_bad=empty"):
        predict(*words, "on_bad=error")
    row = predict(*words, "missing_views=error").set_index("uuid").loc[lonely.name]
    assert row["views"] == 1
    assert row["broken"] == "has 1 of 4 views"
    assert pd.isna(row["latitude"])


def test_places_without_images(sweep: Path, tmp_path: Path):
    (tmp_path / "images" / "p").mkdir(parents=True)
    words = (f"run={sweep / '0'}", f"images={tmp_path / 'images'}", f"out={tmp_path / 'p.csv'}")
    for mode in ("empty", "skip"):
        with pytest.raises(GeoguesserError, match="must hold a place with a whole view"):
            predict(*words, f"on_bad={mode}")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images"]
    assert predict(*words, "on_bad=prior")[POINT].notna().all().all()


def test_true_places_far_from_the_region_are_reported(tmp_path: Path, caplog):
    file = tmp_path / "t.csv"
    file.write_text("uuid,latitude,longitude\na,16,45\nb,18,45.5\n")
    evaluate(f"predictions={file}", f"truth={file}", f"out={tmp_path / 'e'}", *QUICK)
    assert "2 of 2 true places lie more than 300 km from region Croatia" in caplog.text


# Runs in processes of their own.
@pytest.mark.slow
def test_a_killed_prediction_continues(sweep: Path, demo_root: Path, tmp_path: Path):
    # So many copies that a kill finds only a part of them predicted.
    images = tmp_path / "images"
    images.mkdir()
    for number in range(40):
        for folder in sorted((demo_root / "images").iterdir()):
            (images / f"{folder.name}-{number}").symlink_to(folder)
    names = sorted(path.name for path in images.iterdir())

    out, journal = tmp_path / "p.csv", tmp_path / "p.csv.journal"
    words = ["geoguesser.predict", f"run={sweep / '0'}", f"images={images}", f"out={out}", "batch_size=4"]
    with start_command(*words) as process:
        wait_until(lambda: journal.is_file() and journal.read_bytes().count(b"\n") > 20, timeout_s=120)
        process.send_signal(signal.SIGKILL)
    assert 0 < len(journal.read_bytes().splitlines()) - 1 < len(names)
    assert not out.exists()

    resumed = command(*words)
    assert resumed.returncode == 0, resumed.stderr
    assert f"of {len(names)} places are done already" in resumed.stdout
    assert not journal.exists()

    # Copies of a place that were predicted before and after the kill agree.
    table = pd.read_csv(out)
    assert table["uuid"].tolist() == names
    assert table[POINT].notna().all().all()
    assert table.assign(place=table["uuid"].str[:36]).groupby("place")[POINT].std().max().max() < 1e-4
