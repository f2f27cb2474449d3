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
    made = Predictor(network, REGION, IMAGE)
    if calibrated:
        with torch.no_grad():
            said = made.compute_output(IMAGES)
        cell = network.head.grid.assign(places)
        made.calibration = Calibration.fit(said, cell, haversine_km(said.answers_deg, places)).state()
    return made


def make_calibrated_locator() -> Predictor:
    """Makes a locator with a median decoder and a fitted calibration."""
    network = toy_network()
    assert isinstance(network.head, ClassificationHead)
    network.head.decoder = MedianDecoder(temperature=0.9)
    with torch.no_grad():
        network.head.linear.weight.mul_(30.0)
    said = Predictor(network, REGION, IMAGE).compute_output(toy_places()[1])
    learnt = Calibration.fit(said, network.head.grid.assign(toy_places()[0]), np.linspace(1.0, 60.0, 28))
    return Predictor(network, REGION, IMAGE, {"places": 28, "decoder": "some"}, learnt.state())


def check_same_answers(actual: Predictions, expected: Predictions) -> None:
    """Checks that two sets of answers are equal to the bit."""
    np.testing.assert_array_equal(actual.coords_deg, expected.coords_deg)
    np.testing.assert_array_equal(actual.in_region, expected.in_region)
    for one, other in (
        (actual.posterior, expected.posterior),
        (actual.expected_error_km, expected.expected_error_km),
    ):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            np.testing.assert_array_equal(one, other)
    assert (actual.radius_km or {}).keys() == (expected.radius_km or {}).keys()
    for level, radius in (actual.radius_km or {}).items():
        np.testing.assert_array_equal(radius, (expected.radius_km or {})[level])
