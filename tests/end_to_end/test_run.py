"""Runs in this process: files, results, resuming, finetuning, heads, regions, seeds and messages."""

from __future__ import annotations

import csv
import json
import re
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyproj
import pytest
import torch
from conftest import SAMPLE, TINY, compose

from geoguesser.commands.train import run_training
from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.data.images import ImageSpec
from geoguesser.data.views import read_folder
from geoguesser.errors import CheckpointError, ConfigError, DataError, GeoguesserError
from geoguesser.geo.distance import EARTH_RADIUS_KM, haversine_km
from geoguesser.inference.predictor import Predictor
from geoguesser.system.log_filters import filter_logs
from geoguesser.training.ema import RAW

WITHOUT_DEMO = [word for word in TINY if not word.startswith("data.p")]
COMBINED = [
    *(*TINY, "fusion=attention", "fusion.width=16", "fusion.view_dropout=0.3", "callbacks=ema"),
    *("finetune=full", "finetune.layer_decay=0.8", "finetune.batchnorm=train"),
]
LATER = ["finetune.stages=[{epoch:0,from:head},{epoch:1,from:last_2}]"]


def read_test_places(folder: Path) -> tuple[pd.DataFrame, torch.Tensor]:
    """Reads the predictions of a run's test places, and their views."""
    predictions = pd.read_csv(folder / "predictions_test.csv")
    root = ensure_demo(places=60, seed=0, px=56)
    folders = [str(root / "images" / uuid) for uuid in predictions.uuid]
    views = [read_folder(folder, ImageSpec(size=32), mask=False)[0] for folder in folders]
    return predictions, torch.from_numpy(np.stack(views))


def check_checkpoint(folder: Path) -> Predictor:
    """Checks that the best checkpoint predicts the points that the run wrote."""
    predictor = Predictor.load(folder)
    predictions, images = read_test_places(folder)
    coords_deg = predictions[["latitude", "longitude"]].to_numpy()
    assert haversine_km(predictor.predict_coords(images), coords_deg).max() < 0.1
    return predictor


def read_weights(file: Path) -> dict[str, torch.Tensor]:
    return torch.load(file, weights_only=True)["state_dict"]


def read_history(folder: Path) -> list[dict[str, str]]:
    with (folder / "metrics.csv").open() as file:
        return [{key: value for key, value in row.items() if key != "seconds"} for row in csv.DictReader(file)]


def read_result(folder: Path) -> dict[str, Any]:
    return json.loads((folder / "result.json").read_text())


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory) -> Path:
    """Tiny run that several tests read."""
    filter_logs()
    folder = tmp_path_factory.mktemp("job") / "run"
    run_training(compose([*TINY, "pictures=true", "trainer.max_epochs=4"]), folder)
    return folder


def test_a_run_leaves_all_its_files(run_folder: Path):
    names = {str(path.relative_to(run_folder)) for path in run_folder.rglob("*") if path.is_file()}
    assert names == {
        *("config.yaml", "overrides.yaml", "status.json", "result.json"),
        *("metrics.csv", "predictions_test.csv", "places.csv"),
        *("checkpoints/best.ckpt", "checkpoints/last.ckpt"),
        *(f"pictures/{name}.png" for name in ("grid", "arrows", "errors", "curves", "budget")),
    }
    assert json.loads((run_folder / "status.json").read_text()) == {"state": "done"}
    for picture in (run_folder / "pictures").iterdir():
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_errors_agree_with_pyproj_and_with_the_result(run_folder: Path):
    table = pd.read_csv(run_folder / "predictions_test.csv")
    assert list(table) == ["uuid", "latitude", "longitude", "true_latitude", "true_longitude", "error_km"]
    geod = pyproj.Geod(a=EARTH_RADIUS_KM * 1000, f=0)
    metres = geod.inv(table.longitude, table.latitude, table.true_longitude, table.true_latitude)[2]
    np.testing.assert_allclose(table.error_km, np.array(metres) / 1000, atol=1e-3)
    result = read_result(run_folder)
    test = result["test"]
    assert test["error_km_mean"] == pytest.approx(table.error_km.mean(), abs=1e-6)
    assert test["error_km_median"] == pytest.approx(table.error_km.median(), abs=1e-6)
    assert test["error_km_p90"] == pytest.approx(np.percentile(table.error_km, 90), abs=1e-6)
    assert set(test["share_within_km"]) == {"1", "5", "10", "25", "50", "100", "200"}
    assert test["share_within_km"]["100"] == pytest.approx((table.error_km <= 100).mean())
    assert test["places"] == len(table) == result["counts"]["test"]


def test_the_result_is_consistent(run_folder: Path):
    result = read_result(run_folder)
    counts = result["counts"]
    assert counts["train"] + counts["val"] + counts["test"] == counts["places"] == 60
    assert counts["skipped"] == {}
    grid = result["grid"]
    assert grid["asked"] == 30
    assert 0 < grid["hold_training_places"] <= grid["touch_land"]
    assert 0 < grid["error_floor_km_mean"] < grid["side_km"]
    assert 0 <= result["test"]["cell_top1"] <= result["test"]["cell_top5"] <= 1
    assert 0 < result["test"]["score_mean"] < 5000
    assert set(result["baseline"]) == {"best_constant", "nearest", "nearest_features", "ridge"}
    assert all(entry["error_km_mean"] > 0 for entry in result["baseline"].values())
    budget = result["budget"]
    assert budget["error_km_mean"] == pytest.approx(result["test"]["error_km_mean"])
    assert budget["floor_km_mean"] == pytest.approx(grid["error_floor_km_mean"], abs=1e-3)
    assert budget["by_cell"]["right"]["share"] == pytest.approx(result["test"]["cell_top1"])
    assert sum(group["km"] for group in budget["by_cell"].values()) == pytest.approx(budget["error_km_mean"])
    assert result["uncertainty"]["calibration_places"] == 0
    assert "too few for calibration" in result["uncertainty"]["reason"]
    assert result["seed"] == 0
    assert result["versions"]["torch"].split("+")[0] == torch.__version__.split("+")[0]
    assert result["times"]["total_s"] >= result["times"]["fit_s"] > 0
    assert result["epochs"] == 4
    errors = [float(row["val/error_km_mean"]) for row in read_history(run_folder)]
    assert result["best_epoch"] == int(np.argmin(errors))
    assert result["val"]["error_km_mean"] == pytest.approx(min(errors), rel=1e-5)


def test_places_table_agrees_with_the_split_and_the_grid(run_folder: Path):
    table = pd.read_csv(run_folder / "places.csv")
    result = read_result(run_folder)
    counts = dict(table["split"].value_counts())
    assert counts == {name: result["counts"][name] for name in ("train", "val", "test")}
    train = table[table.split == "train"]
    assert train.cell.nunique() == result["grid"]["hold_training_places"]
    transformer = pyproj.Transformer.from_crs(4326, 3765, always_xy=True)
    x, y = transformer.transform(table.longitude, table.latitude)
    np.testing.assert_allclose(table.x_m, x, atol=0.02)
    np.testing.assert_allclose(table.y_m, y, atol=0.02)
    back = pyproj.Transformer.from_crs(3765, 4326, always_xy=True)
    # point=weighted: means of the training places.
    means = train.groupby("cell")[["x_m", "y_m"]].mean()
    lon, lat = back.transform(means.x_m, means.y_m)
    points = table.drop_duplicates("cell").set_index("cell").loc[means.index]
    np.testing.assert_allclose(points.class_latitude, lat, atol=1e-6)
    np.testing.assert_allclose(points.class_longitude, lon, atol=1e-6)


CALIBRATED = [*TINY, "split.shares=[0.3,0.4,0.3]", "calibration.min_places=5", "calibration.fraction=0.5"]


@pytest.mark.parametrize("head", ["classification", "regression"])
def test_uncertainty_is_calibrated_on_held_out_validation_places(run_job, tmp_path: Path, head: str):
    result = run_job([*CALIBRATED, f"head={head}", "pictures=true"], tmp_path / "run")
    part = result["uncertainty"]
    places = pd.read_csv(tmp_path / "run/places.csv")
    assert part["calibration_places"] == places.calibration.sum() > 5
    assert set(places.split[places.calibration]) == {"val"}
    assert result["counts"]["val"] == (places.split == "val").sum() > part["calibration_places"] + 5
    table = pd.read_csv(tmp_path / "run/predictions_test.csv")
    assert list(table)[:6] == ["uuid", "latitude", "longitude", "true_latitude", "true_longitude", "error_km"]
    radius = part["radii"]["50"]
    assert radius["coverage"] == pytest.approx((table.error_km <= table.radius_50_km).mean())
    assert radius["low"] <= radius["coverage"] <= radius["high"]
    # A level of 95 % needs 19 places.
    assert part["radii"]["95"] is None
    assert (tmp_path / "run/pictures/calibration.png").is_file()
    assert (tmp_path / "run/pictures/abstention.png").is_file() == (head == "classification")
    if head == "regression":
        assert part["sets"] is result["grid"] is result["test"]["cell_top1"] is None
        assert "cell" not in places
        assert "cell" not in table
        assert table.radius_50_km.nunique() == 1
        return
    assert part["temperature"] > 0
    assert result["test"]["cell_top1"] == pytest.approx(
        (table.merge(places, on="uuid").eval("cell_x == cell_y")).mean()
    )
    assert table.expected_error_km.mean() == pytest.approx(part["expected_error_km_mean"], abs=1e-6)
    assert (table.set_50_cells <= table.set_90_cells).all()
    assert (table.set_95_cells == result["grid"]["hold_training_places"]).all()


def test_baselines_of_features_need_cached_features(run_job, tmp_path: Path):
    result = run_job([*CALIBRATED, "augment=light", "trainer.max_epochs=1"], tmp_path / "run")
    assert result["baseline"]["ridge"] is result["baseline"]["nearest_features"] is None
    assert result["uncertainty"]["calibration_places"] > 5


def test_the_test_uses_the_best_checkpoint(run_folder: Path):
    check_checkpoint(run_folder)


def test_checkpoints_hold_no_paths(run_folder: Path):
    for name in ("best", "last"):
        file = run_folder / "checkpoints" / f"{name}.ckpt"
        checkpoint = torch.load(file, weights_only=True)
        rest = {key: value for key, value in checkpoint.items() if key != "state_dict"}
        assert str(run_folder) not in repr(rest)
        assert "logger" not in checkpoint["geoguesser"]["config"]


def test_the_same_seed_gives_the_same_run_and_another_does_not(run_job, tmp_path: Path):
    first = run_job(TINY, tmp_path / "a")
    repeated = run_job(TINY, tmp_path / "b")
    other = run_job([*TINY, "seed=1"], tmp_path / "c")
    assert read_history(tmp_path / "a") == read_history(tmp_path / "b")
    assert first["test"] == repeated["test"]
    assert first["test"]["error_km_mean"] != other["test"]["error_km_mean"]
    # split.seed, and not seed, draws the split.
    assert first["counts"] == other["counts"]


@pytest.mark.parametrize(
    "words",
    [
        "head=regression head.space=sphere",
        "decoder=argmax fusion=mean",
        "decoder=median schedule=step",
        "decoder=top_k decoder.k=3 decoder.temperature=0.5",
        "grid.spacing_km=80 grid.point=clipped",
        "optimizer=sgd schedule=onecycle",
        "optimizer=adamw trainer.accumulate_grad_batches=2 trainer.gradient_clip_val=1.0",
        "trainer.precision=bf16-mixed trainer.val_check_interval=0.5 callbacks.checkpoint.save_top_k=2",
        "logger=tensorboard split=kfold",
        "split=blocks split.block_km=60 split.buffer_km=20 split.shares=[0.6,0.2,0.2]",
    ],
)
def test_choices_run(run_job, tmp_path: Path, words: str):
    result = run_job([*TINY, *words.split()], tmp_path / "run")
    assert np.isfinite(result["test"]["error_km_mean"])
    assert (tmp_path / "run/checkpoints/best.ckpt").is_file()


def test_lr_find_is_recorded_and_not_repeated_on_resume(run_job, tmp_path: Path):
    job = [*TINY, "lr_find=true", "schedule=constant", "pictures=true", "callbacks.early_stopping=null"]
    first = run_job(job, tmp_path / "run")
    assert 1e-6 < first["lr_found"] <= 1
    assert (tmp_path / "run/pictures/lr_find.png").is_file()
    assert float(read_history(tmp_path / "run")[0]["lr/head"]) == pytest.approx(first["lr_found"], rel=1e-5)
    resumed = run_job([*job, "trainer.max_epochs=3", f"resume={tmp_path / 'run'}"], tmp_path / "run")
    assert resumed["lr_found"] == first["lr_found"]
    assert float(read_history(tmp_path / "run")[2]["lr/head"]) == pytest.approx(first["lr_found"], rel=1e-5)


def test_init_from_copies_the_network_or_the_backbone(run_job, run_folder: Path, tmp_path: Path, caplog):
    with caplog.at_level("INFO"):
        run_job([*TINY, f"init_from={run_folder}", "decoder=argmax", "trainer.max_epochs=1"], tmp_path / "same")
        run_job([*TINY, f"init_from={run_folder}", "grid.size=10", "trainer.max_epochs=1"], tmp_path / "other")
    assert f"network from {run_folder}" in caplog.text
    assert "fusion and head start afresh" in caplog.text
    stem = "network.backbone.model.conv_stem.weight"
    assert torch.equal(
        read_weights(tmp_path / "other/checkpoints/last.ckpt")[stem],
        read_weights(run_folder / "checkpoints/last.ckpt")[stem],
    )
    with pytest.raises(CheckpointError, match="must have the backbone resnet10t, got 'mobilenetv3_small_050'"):
        run_job([*TINY, "backbone.name=resnet10t", f"init_from={run_folder}"], tmp_path / "wrong")


def test_skipped_places_are_counted_and_listed(run_job, tmp_path: Path, caplog):
    root = tmp_path / "root"
    shutil.copytree(ensure_demo(places=60, seed=0, px=56), root)
    folders = sorted((root / "images").iterdir())
    (folders[0] / "90.jpg").write_bytes(b"broken")
    (folders[1] / "0.jpg").unlink()
    job = [*WITHOUT_DEMO, "data=places", f"data.roots=[{root}]"]
    with pytest.raises(DataError, match=r"(?s)1 missing_view.*0\.jpg.*data\.on_bad\.missing_view=skip") as caught:
        run_job(job, tmp_path / "one")
    assert len(str(caught.value).splitlines()) < 20
    with pytest.raises(DataError, match=r"(?s)1 broken_image.*90\.jpg is not a complete image"):
        run_job([*job, "data.on_bad.missing_view=skip"], tmp_path / "two")
    assert not (tmp_path / "two/checkpoints").exists()
    assert json.loads((tmp_path / "two/status.json").read_text())["state"] == "failed"
    assert "broken_image" in pd.read_csv(tmp_path / "two/findings.csv")["kind"].tolist()
    skips = ["data.on_bad.missing_view=skip", "data.on_bad.broken_image=skip"]
    result = run_job([*job, *skips], tmp_path / "three")
    assert result["counts"]["skipped"] == {"missing_view": 1, "broken_image": 1}
    assert re.search(r"left out: .*1 missing_view.* \(see", caplog.text)
    assert result["counts"]["places"] == 58
    assert len(pd.read_csv(tmp_path / "three/findings.csv")) == 2
    # The grid is fitted without the skipped places.
    places = pd.read_csv(tmp_path / "three/places.csv")
    assert places[places.split == "train"].cell.nunique() == result["grid"]["hold_training_places"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("grid.size=abc", "grid.size must be a positive integer, got 'abc'."),
        ("trainer.precision=7", "trainer does not take these values: "),
        ("trainer.val_check_interval=0", "trainer.val_check_interval must be a number above 0"),
        ("+trainer.limit_train_batches=1e-9", "Lightning refuses values "),
        ("seed=-1", "seed must be an integer from 0 to 4294967295"),
        ("callbacks.checkpoint=null", "callbacks.checkpoint must be there"),
        ("callbacks.early_stopping.mode=mni", "callbacks.early_stopping does not take these values: "),
        ("callbacks.early_stopping.monitor=val/eror", "callbacks.early_stopping.monitor must be one of val/loss"),
        ("calibration.fraction=2", "calibration.fraction must be a number from 0 to 0.9"),
        ("+calibration.few=2", "calibration must have the keys fraction, min_places, and no other"),
        ("pictures=maybe", "pictures must be true or false"),
        ("features.limit_gib=x", "features.limit_gib must be a number from 0"),
        ("backbone.name=resnet5000", "backbone.name must be a model that timm "),
        ("backbone.pretrained=true", "backbone.name "),
        ("region=world head=regression", "head.space must be sphere for region world"),
        ("resume=/nowhere", "resume=/nowhere must be a run folder with checkpoints/last.ckpt"),
        ("init_from=/nowhere", "/nowhere must be a run folder with checkpoints/best.ckpt"),
    ],
)
def test_a_wrong_value_is_one_clear_message(run_job, tmp_path: Path, words: str, message: str):
    with pytest.raises(GeoguesserError, match="^" + re.escape(message)):
        run_job([*TINY, *words.split()], tmp_path / "run")
    assert not (tmp_path / "run/checkpoints").exists()
    assert not (tmp_path / "run/result.json").exists()


@pytest.mark.skipif(not SAMPLE.is_dir(), reason="the real sample lies beside the project, not in it")
def test_real_sample_runs_and_is_sane(run_job, tmp_path: Path):
    """40 places are too few to learn from, but real files must not break a run."""
    roots = f"data.roots=[{SAMPLE / 'original'},{SAMPLE / 'external'}]"
    result: dict[str, Any] = run_job([*WITHOUT_DEMO, "data=places", roots, "split.seed=3"], tmp_path / "run")
    assert result["counts"]["places"] == 40
    assert 10 < result["test"]["error_km_mean"] < 400


@pytest.mark.parametrize("choice", ["competition", "regression_baseline", "quick"])
def test_a_dry_run_of_an_experiment_trains_nothing(run_job, tmp_path: Path, choice: str, capsys):
    """Each recipe is built and estimated with random weights on small views."""
    small = ["backbone.pretrained=false", "data.places=60", "data.px=56", "image.size=32", "logger=csv"]
    facts = run_job([f"experiment={choice}", *small, "dry_run=true"], tmp_path / "run")
    assert facts["places"]["places"] == 60
    assert (facts["cells"] is None) == (choice == "regression_baseline")
    assert facts["features_computed_once"] == (choice != "competition")
    assert facts["parameters"]["total"] > facts["parameters"]["without_backbone"] > 0
    assert "nothing is trained" in capsys.readouterr().out
    assert not (tmp_path / "run/checkpoints").exists()


@pytest.mark.slow
def test_compiled_training_keeps_the_checkpoints_keys(run_job, tmp_path: Path):
    run_job([*TINY, "compile=true", "trainer.max_epochs=1"], tmp_path / "compiled")
    run_job([*TINY, "trainer.max_epochs=1"], tmp_path / "plain")
    files = [tmp_path / name / "checkpoints/best.ckpt" for name in ("compiled", "plain")]
    assert read_weights(files[0]).keys() == read_weights(files[1]).keys()


def test_debug_trainer(run_job, tmp_path: Path):
    words = [word for word in TINY if not word.startswith("trainer")]
    result = run_job([*words, "trainer=debug", "features.batch_size=8"], tmp_path / "run")
    assert result["steps"] == 6


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("grid.size=10", r"cannot be resumed: its head differs from what data and config now give"),
        ("data.fraction=0.6", r"cannot be resumed: its data differ from those given now in splits\."),
        ("optimizer.lr=0.5", r"^A resumed run keeps its learning rates.*init_from=RUN_FOLDER\.$"),
    ],
)
def test_resuming_with_other_data_or_networks_is_refused(run_job, tmp_path: Path, change: str, message: str):
    run_job([*TINY, "trainer.max_epochs=1"], tmp_path / "run")
    before = read_weights(tmp_path / "run/checkpoints/best.ckpt")
    files = {path: path.read_bytes() for path in (tmp_path / "run").glob("*.[jyc]*") if path.is_file()}
    assert {path.name for path in files} >= {"result.json", "status.json", "config.yaml", "overrides.yaml"}
    with pytest.raises(CheckpointError, match=message):
        run_job([*TINY, f"resume={tmp_path / 'run'}", change], tmp_path / "run")
    after = read_weights(tmp_path / "run/checkpoints/best.ckpt")
    assert all(torch.equal(before[key], after[key]) for key in before)
    # The run is unchanged, so that it can still be resumed.
    for path, content in files.items():
        assert path.read_bytes() == content, path.name


def test_a_moved_run_keeps_its_best_checkpoint(run_job, tmp_path: Path):
    job = [*TINY, "callbacks.early_stopping=null"]
    run_job([*job, "trainer.max_epochs=4"], tmp_path / "old")
    (tmp_path / "old").rename(tmp_path / "new")
    result = run_job([*job, "trainer.max_epochs=6", f"resume={tmp_path / 'new'}"], tmp_path / "new")
    best = torch.load(tmp_path / "new/checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == result["best_epoch"]


def test_a_folder_is_free_until_a_run_has_trained(run_job, tmp_path: Path):
    with pytest.raises(ConfigError):
        run_job([*TINY, "grid.size=abc"], tmp_path / "run")
    run_job([*TINY, "dry_run=true"], tmp_path / "run")
    assert not (tmp_path / "run/status.json").exists()
    run_job([*TINY, "trainer.max_epochs=1", "name=7"], tmp_path / "run")
    assert json.loads((tmp_path / "run/status.json").read_text()) == {"state": "done"}

    before = (tmp_path / "run/result.json").read_bytes()
    with pytest.raises(GeoguesserError, match=r"contains a run already.*hydra\.run\.dir=FOLDER"):
        run_job(TINY, tmp_path / "run")
    assert (tmp_path / "run/result.json").read_bytes() == before


@pytest.mark.parametrize("stages", [[], LATER], ids=["full", "staged"])
def test_resuming_a_run_with_all_choices_changes_nothing(stages: list[str], run_job, tmp_path: Path) -> None:
    choices, part = [*COMBINED, *stages], tmp_path / "part"
    complete = run_job([*choices, "trainer.max_epochs=3"], tmp_path / "complete")
    run_job([*choices, "trainer.max_epochs=2"], part)
    resumed_run = run_job([*choices, "trainer.max_epochs=3", f"resume={part}"], part)
    assert (resumed_run["test"], resumed_run["steps"]) == (complete["test"], complete["steps"])
    assert read_history(part) == read_history(tmp_path / "complete")

    files = [folder / "checkpoints/last.ckpt" for folder in (tmp_path / "complete", part)]
    expected, resumed = (torch.load(file, weights_only=True) for file in files)
    for entry in ("state_dict", RAW):
        assert expected[entry].keys() == resumed[entry].keys()
        assert all(torch.equal(tensor, resumed[entry][name]) for name, tensor in expected[entry].items()), entry
    assert any(name.startswith("lr/backbone") and "." in name for name in read_history(part)[0])
    check_checkpoint(tmp_path / "complete")

    changes = {
        "callbacks=default": "it cannot be resumed without it",
        "finetune.layer_decay=0.7": "keeps its ",
    }
    for change, message in changes.items():
        with pytest.raises(CheckpointError, match=message):
            run_job([*choices, change, "trainer.max_epochs=4", f"resume={part}"], part)


@pytest.mark.parametrize(
    "words",
    [
        ["head=hybrid"],
        ["grid=quadtree", "loss=expected_distance"],
        ["grid=kmeans", "loss.class_balance=1.0"],
        ["grid=staggered", "decoder=argmax"],
        ["grid=pyramid", "grid.sizes=[5,20]", "head=hybrid"],
        ["region=world", "grid=quadtree", "decoder=top_k"],
    ],
    ids=",".join,
)
def test_the_checkpoint_predicts_what_the_run_wrote(words: list[str], run_job, tmp_path: Path) -> None:
    result = run_job([*TINY, "density=usual", *words], tmp_path / "run")
    predictor = check_checkpoint(tmp_path / "run")
    assert predictor.network.head.state()["decoder"] == result["decoder"]


def test_the_checkpoint_holds_the_calibration(run_job, tmp_path: Path) -> None:
    words = [*TINY, "density=coarse", "calibration.min_places=2", "split.shares=[0.5,0.3,0.2]"]
    run_job(words, tmp_path / "run")
    predictor = Predictor.load(tmp_path / "run")
    predictions, images = read_test_places(tmp_path / "run")
    columns = predictor.uncertainty.describe_places(predictor.compute_output(images))
    np.testing.assert_allclose(columns["expected_error_km"], predictions.expected_error_km, rtol=1e-3)
    np.testing.assert_array_equal(columns["cell"], predictions.cell)

    predictor.save(tmp_path / "copy.ckpt")
    assert Predictor.load(tmp_path / "copy.ckpt").calibration == predictor.calibration
