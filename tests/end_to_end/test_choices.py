"""Combined choices of training, and predictions from the checkpoint of a run."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import TINY

from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.data.images import ImageSpec
from geoguesser.data.views import read_folder
from geoguesser.errors import CheckpointError
from geoguesser.geo.distance import haversine_km
from geoguesser.inference.predictor import Predictor
from geoguesser.training.ema import RAW

CHOICES = [
    *TINY,
    "fusion=attention",
    "fusion.width=16",
    "fusion.view_dropout=0.3",
    "callbacks=ema",
    "finetune=full",
    "finetune.layer_decay=0.8",
    "finetune.batchnorm=train",
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


@pytest.mark.parametrize("stages", [[], LATER], ids=["full", "staged"])
def test_resuming_a_run_with_all_choices_changes_nothing(stages: list[str], run_job, tmp_path: Path) -> None:
    choices, part = [*CHOICES, *stages], tmp_path / "part"
    run_job([*choices, "trainer.max_epochs=3"], tmp_path / "complete")
    run_job([*choices, "trainer.max_epochs=2"], part)
    run_job([*choices, "trainer.max_epochs=3", f"resume={part}"], part)

    files = [folder / "checkpoints/last.ckpt" for folder in (tmp_path / "complete", part)]
    expected, resumed = (torch.load(file, weights_only=True) for file in files)
    for entry in ("state_dict", RAW):
        assert expected[entry].keys() == resumed[entry].keys()
        assert all(torch.equal(tensor, resumed[entry][name]) for name, tensor in expected[entry].items()), entry
    history = pd.read_csv(tmp_path / "complete" / "metrics.csv")
    assert any(column.startswith("lr/backbone") and "." in column for column in history.columns)
    check_checkpoint(tmp_path / "complete")
    with pytest.raises(CheckpointError, match="it cannot be resumed without it"):
        run_job([*choices, "callbacks=default", "trainer.max_epochs=4", f"resume={part}"], part)


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
