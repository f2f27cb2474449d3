"""Choices that touch training together, in one run from the config: attention, view dropout, layer decay, EMA."""

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
from geoguesser.model.uncertainty import decode_output, restore_calibration
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


def checkpoint(folder: Path, name: str) -> dict[str, dict[str, torch.Tensor]]:
    found: dict[str, dict[str, torch.Tensor]] = torch.load(folder / "checkpoints" / name, weights_only=True)
    return found


@pytest.mark.parametrize("stages", [[], LATER], ids=["full", "staged"])
def test_a_run_with_all_of_them_and_its_resume(stages: list[str], run_job, tmp_path: Path) -> None:
    choices = [*CHOICES, *stages]
    run_job([*choices, "trainer.max_epochs=3"], tmp_path / "whole")
    run_job([*choices, "trainer.max_epochs=2"], tmp_path / "parts")
    run_job([*choices, "trainer.max_epochs=3", f"resume={tmp_path / 'parts'}"], tmp_path / "parts")
    one, two = (checkpoint(tmp_path / name, "last.ckpt") for name in ("whole", "parts"))
    for part in ("state_dict", RAW):
        assert one[part].keys() == two[part].keys()
        assert all(torch.equal(tensor, two[part][name]) for name, tensor in one[part].items()), part
    history = pd.read_csv(tmp_path / "whole" / "metrics.csv")
    assert any(column.startswith("lr/backbone") and "." in column for column in history.columns)
    locator = Predictor.load(tmp_path / "whole")
    predictions = pd.read_csv(tmp_path / "whole" / "predictions_test.csv").head(3)
    root = ensure_demo(places=60, seed=0, px=56)
    views = [
        read_folder(str(root / "images" / uuid), ImageSpec(size=32), mask=False)[0] for uuid in predictions.uuid
    ]
    found = locator.predict_coords(torch.stack([torch.from_numpy(one) for one in views]))
    given = predictions[["latitude", "longitude"]].to_numpy()
    assert haversine_km(found, given).max() < 0.1
    with pytest.raises(CheckpointError, match="it cannot be resumed without it"):
        run_job(
            [*choices, "callbacks=default", "trainer.max_epochs=4", f"resume={tmp_path / 'parts'}"],
            tmp_path / "parts",
        )


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
def test_what_a_run_learnt_answers_alike_from_its_checkpoint(words: list[str], run_job, tmp_path: Path) -> None:
    result = run_job([*TINY, "density=usual", *words], tmp_path / "run")
    locator = Predictor.load(tmp_path / "run")
    predictions = pd.read_csv(tmp_path / "run" / "predictions_test.csv")
    root = ensure_demo(places=60, seed=0, px=56)
    views = [
        read_folder(str(root / "images" / uuid), ImageSpec(size=32), mask=False)[0] for uuid in predictions.uuid
    ]
    found = locator.predict_coords(torch.stack([torch.from_numpy(one) for one in views]))
    assert haversine_km(found, predictions[["latitude", "longitude"]].to_numpy()).max() < 0.1
    assert locator.network.head.state()["decoder"] == result["decoder"]


def test_a_checkpoint_says_how_sure_it_is(run_job, tmp_path: Path) -> None:
    """From the checkpoint alone come the very columns that the run wrote."""
    words = [*TINY, "density=coarse", "calibration.min_places=2", "split.shares=[0.5,0.3,0.2]"]
    run_job(words, tmp_path / "run")
    locator = Predictor.load(tmp_path / "run")
    assert locator.calibration is not None
    predictions = pd.read_csv(tmp_path / "run" / "predictions_test.csv")
    root = ensure_demo(places=60, seed=0, px=56)
    views = [
        read_folder(str(root / "images" / uuid), ImageSpec(size=32), mask=False)[0] for uuid in predictions.uuid
    ]
    images = torch.stack([torch.from_numpy(one) for one in views])
    with torch.no_grad():
        out = locator.network(images, torch.ones(images.shape[:2], dtype=torch.bool))
    known = restore_calibration(locator.calibration).describe_places(decode_output(locator.network.head, out))
    np.testing.assert_allclose(known["expected_error_km"], predictions.expected_error_km, rtol=1e-3)
    np.testing.assert_array_equal(known["cell"], predictions.cell)
    locator.save(tmp_path / "again.ckpt")
    assert Predictor.load(tmp_path / "again.ckpt").calibration == locator.calibration
