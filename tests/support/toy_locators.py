"""Locators over the toy country, with strong random weights, and a comparison of their answers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import SquareGrid
from geoguesser.inference.predictions import Predictions
from geoguesser.inference.predictor import Predictor
from geoguesser.model.decoder import Decoder, MeanDecoder, MedianDecoder
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.uncertainty import Calibration
from support.toy_run import IMAGE, REGION, fit_head, toy_network, toy_places

IMAGES = toy_places()[1]


def make_locator(
    seed: int, *, cells: int = 9, kind: Any = ClassificationHead, decoder: Decoder | None = None, calibrated=False
) -> Predictor:  # fmt: skip
    """Makes a locator whose random weights are so large that its answers differ between places."""
    network = toy_network()
    places = toy_places()[0]
    network.head = fit_head(
        network.fusion.output_size,
        places,
        kind,
        grid=SquareGrid(size=cells),
        decoder=decoder or MeanDecoder(),
    )
    torch.manual_seed(seed)
    with torch.no_grad():
        network.head.linear.weight.normal_(0.0, 3.0)
    locator = Predictor(network, REGION, IMAGE, {"places": 28, "decoder": "some"})
    if calibrated:
        output = locator.compute_output(IMAGES)
        error_km = haversine_km(output.answers_deg, places)
        locator.calibration = Calibration.fit(output, network.head.grid.assign(places), error_km).state()
    return locator


def make_calibrated_locator() -> Predictor:
    """Makes a locator with a median decoder and a fitted calibration."""
    return make_locator(0, decoder=MedianDecoder(temperature=0.9), calibrated=True)


def check_same_answers(actual: Predictions, expected: Predictions) -> None:
    """Checks that two sets of answers are equal to the bit."""
    for name in ("coords_deg", "in_region", "posterior", "expected_error_km", "radius_km"):
        np.testing.assert_equal(getattr(actual, name), getattr(expected, name), err_msg=name)
