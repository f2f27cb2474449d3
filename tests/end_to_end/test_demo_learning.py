"""The synthetic demo has to be learnt: the default run gets there, mean colours do not."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pytest
from sklearn.linear_model import RidgeCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import country


def mean_colours(uuids: list[str]) -> np.ndarray:
    """(N, 24) mean and deviation of each channel of each view, from the files themselves."""
    root = ensure_demo()
    views = [
        [cv2.imread(str(root / "images" / uuid / f"{heading}.jpg")) for heading in (0, 90, 180, 270)]
        for uuid in uuids
    ]
    return np.array([[[view.mean((0, 1)), view.std((0, 1))] for view in four] for four in views]).reshape(
        len(uuids), -1
    )


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(5))
def test_the_default_run_learns_and_mean_colours_do_not(run_job: Callable[..., Any], tmp_path: Path, seed: int):
    folder = tmp_path / "run"
    result = run_job([f"seed={seed}", f"split.seed={seed}", "pictures=false", "logger=csv"], folder)
    constant = result["baseline"]["best_constant"]["error_km_mean"]
    assert result["test"]["error_km_mean"] <= 0.6 * constant

    places = pd.read_csv(folder / "places.csv")
    train, test = places[places.split == "train"], places[places.split == "test"]
    ridge = make_pipeline(StandardScaler(), RidgeCV(np.logspace(-2, 4, 13)))
    ridge.fit(mean_colours(train.uuid.tolist()), train[["x_m", "y_m"]])
    answers = country("HRV", "EPSG:3765").to_degrees(ridge.predict(mean_colours(test.uuid.tolist())))
    colours = haversine_km(answers, test[["latitude", "longitude"]].to_numpy()).mean()
    assert colours >= 0.8 * constant
    assert colours >= 1.4 * result["test"]["error_km_mean"]
