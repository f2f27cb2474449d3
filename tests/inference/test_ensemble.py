"""Ensemble: mean posteriors of members with one grid, else the geometric median of their points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy_locators import IMAGES, check_same_answers, make_locator
from support.toy_run import IMAGE, REGION, fit_head, toy_network, toy_places

from geoguesser.data.images import ImageSpec
from geoguesser.errors import ConfigError, MissingFileError
from geoguesser.geo.distance import from_unit, haversine_km, to_unit
from geoguesser.geo.median import spherical_median
from geoguesser.geo.region import SphereRegion
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.predictions import calibrate, concatenate
from geoguesser.inference.predictor import Predictor
from geoguesser.model.decoder import ArgmaxDecoder, MeanDecoder, MedianDecoder
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.heads.hybrid import HybridHead
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.model.uncertainty import decode_output


def find_medians_deg(weights: np.ndarray, points_deg: np.ndarray) -> np.ndarray:
    return from_unit(spherical_median(torch.from_numpy(weights), torch.from_numpy(to_unit(points_deg))).numpy())


def test_an_ensemble_of_one_predicts_as_its_member():
    member = make_locator(0, calibrated=True)
    check_same_answers(Ensemble([member]).predict([IMAGES]), member.predict(IMAGES))
    assert Ensemble([member]).calibrated
    assert not Ensemble([make_locator(0)]).calibrated


def test_predictions_hold_the_uncertainty_of_the_calibration():
    member = make_locator(1, calibrated=True)
    predictions = member.predict(IMAGES)
    columns = member.uncertainty.describe_places(member.compute_output(IMAGES))
    assert sorted(predictions.radius_km) == ["50", "90", "95"]
    for level, cells in predictions.sets.items():
        np.testing.assert_array_equal(predictions.radius_km[level], columns[f"radius_{level}_km"])
        np.testing.assert_array_equal(cells.sum(axis=1), columns[f"set_{level}_cells"])
        assert cells[np.arange(len(cells)), predictions.posterior.argmax(axis=1)].all()

    np.testing.assert_allclose(predictions.posterior.sum(axis=1), 1.0)
    best, probability = predictions.top_cells(3)
    assert (np.diff(probability, axis=1) <= 0).all()
    np.testing.assert_array_equal(best[:, 0], columns["cell"])
    np.testing.assert_allclose(probability[:, 0], columns["cell_probability"])
    # Means of points on a convex land lie on it.
    assert predictions.in_region.all()

    joined = concatenate([member.predict(IMAGES[:5]), member.predict(IMAGES[5:])])
    np.testing.assert_allclose(joined.coords_deg, predictions.coords_deg, atol=1e-5)
    np.testing.assert_allclose(joined.radius_km["90"], predictions.radius_km["90"], rtol=1e-4)
    assert joined.sets["50"].shape == predictions.sets["50"].shape


def test_posteriors_are_averaged_where_grids_agree():
    members = [make_locator(seed, decoder=MedianDecoder()) for seed in (0, 1, 2)]
    ensemble = Ensemble(members)
    assert ensemble.grid is members[0].network.head.grid
    predictions = ensemble.predict([IMAGES])
    mean = np.mean([member.predict(IMAGES).posterior for member in members], axis=0)
    np.testing.assert_allclose(predictions.posterior, mean, atol=1e-6)

    medians_deg = find_medians_deg(mean, ensemble.grid.class_points_deg)
    assert haversine_km(predictions.coords_deg, medians_deg).max() < 0.01


@pytest.mark.parametrize("kind", [ClassificationHead, HybridHead])
def test_a_copy_of_a_member_changes_nothing(kind: Any):
    members = [make_locator(3, kind=kind, calibrated=kind is ClassificationHead) for _ in range(2)]
    single, pair = members[0].predict(IMAGES), Ensemble(members).predict([IMAGES])
    np.testing.assert_allclose(pair.coords_deg, single.coords_deg, atol=1e-5)
    np.testing.assert_allclose(pair.posterior, single.posterior, atol=1e-6)
    if kind is ClassificationHead:
        np.testing.assert_allclose(pair.expected_error_km, single.expected_error_km, rtol=1e-4)
        for level in ("50", "90", "95"):
            np.testing.assert_allclose(pair.radius_km[level], single.radius_km[level], rtol=1e-4)


def test_members_with_different_decoders_get_the_median():
    mixed, median = (
        Ensemble([make_locator(0, decoder=decoder) for decoder in decoders]).predict([IMAGES])
        for decoders in ((ArgmaxDecoder(), MeanDecoder()), (MedianDecoder(), MedianDecoder()))
    )
    np.testing.assert_allclose(mixed.coords_deg, median.coords_deg, atol=1e-6)


def test_points_are_geometric_medians_where_grids_differ():
    members = [make_locator(seed, cells=cells, calibrated=True) for seed, cells in ((0, 9), (1, 16), (2, 25))]
    predictions = Ensemble(members).predict([IMAGES])
    assert predictions.posterior is predictions.grid is None
    with pytest.raises(ValueError, match="has no cells"):
        predictions.top_cells(5)

    points = np.stack([member.predict_coords(IMAGES) for member in members], axis=1)
    medians_deg = find_medians_deg(np.ones((len(points), 3)), points)
    assert haversine_km(predictions.coords_deg, medians_deg).max() < 0.01
    expected_km = [member.predict(IMAGES).expected_error_km for member in members]
    np.testing.assert_allclose(predictions.expected_error_km, np.mean(expected_km, axis=0))

    # The median of two points is their middle.
    pair = Ensemble(members[:2]).predict([IMAGES])
    distances_km = [haversine_km(pair.coords_deg, points[:, column]) for column in range(2)]
    np.testing.assert_allclose(*distances_km, atol=1e-3)
    assert Ensemble([members[0], make_locator(1, cells=16)]).predict([IMAGES]).radius_km is None


def test_regression_and_classification_are_combined():
    network = toy_network()
    network.head = fit_head(network.fusion.output_size, toy_places()[0], RegressionHead)
    regression = Predictor(network, REGION, IMAGE)
    single = Ensemble([regression]).predict([IMAGES])
    assert single.posterior is single.expected_error_km is None
    np.testing.assert_array_equal(single.coords_deg, regression.predict_coords(IMAGES))
    mixed = Ensemble([regression, make_locator(0)])
    assert mixed.grid is None
    assert mixed.predict([IMAGES]).coords_deg.shape == (len(IMAGES), 2)


def test_each_member_gets_images_of_its_size():
    small, large = make_locator(0), make_locator(1)
    large.image = ImageSpec(size=48)
    ensemble = Ensemble([small, large, make_locator(2)])
    assert [spec.size for spec in ensemble.specs] == [32, 48]
    enlarged = torch.nn.functional.interpolate(IMAGES.flatten(0, 1).float(), size=48).byte().unflatten(0, (-1, 4))
    predictions = ensemble.predict([IMAGES, enlarged])
    members = [(small, IMAGES), (large, enlarged), (make_locator(2), IMAGES)]
    parts = [member.predict(images).posterior for member, images in members]
    np.testing.assert_allclose(predictions.posterior, np.mean(parts, axis=0), atol=1e-6)


def test_the_prediction_without_images_is_that_of_mean_features():
    member = make_locator(0)
    head = member.network.head
    with torch.no_grad():
        expected = head.decode(head.linear.bias[None]).double().numpy()
    np.testing.assert_array_equal(Ensemble([member]).predict_prior().coords_deg, expected)
    assert len(Ensemble([member, make_locator(1, cells=16)]).predict_prior()) == 1


def test_points_off_the_land_are_outside_the_region():
    coords_deg = np.array([[45.3, 15.5], [44.0, 15.5]])
    output = decode_output(make_locator(0).network.head, torch.zeros(2, 9), coords_deg)
    assert calibrate(output, REGION, None, None).in_region.tolist() == [True, False]


def test_members_that_do_not_fit_are_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="run must name at least one run"):
        Ensemble([])
    other = make_locator(0)
    other.region = SphereRegion()
    with pytest.raises(ConfigError, match=r"runs of one region.*'Toyland and world'"):
        Ensemble([make_locator(0), other])
    with pytest.raises(MissingFileError, match="nowhere"):
        Ensemble.load([tmp_path / "nowhere"])
