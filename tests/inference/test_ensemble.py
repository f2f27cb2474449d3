"""Ensemble and Answers: one member answers as its locator; several by mean posteriors or the median of points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.optimize import minimize
from support.toy_locators import IMAGES, make_locator
from support.toy_run import IMAGE, REGION, toy_network, toy_places

from geoguesser.data.images import ImageSpec
from geoguesser.errors import ConfigError, MissingFileError
from geoguesser.geo.distance import haversine_km, to_unit
from geoguesser.geo.region import SphereRegion
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.predictions import calibrate, concatenate
from geoguesser.inference.predictor import Predictor
from geoguesser.model.decoder import ArgmaxDecoder, MeanDecoder, MedianDecoder
from geoguesser.model.heads.hybrid import HybridHead
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.model.uncertainty import decode_output


def test_one_member_answers_as_its_locator():
    one = make_locator(0, calibrated=True)
    alone, own = Ensemble([one]).predict([IMAGES]), one.predict(IMAGES)
    np.testing.assert_array_equal(alone.coords_deg, one.predict_coords(IMAGES))
    np.testing.assert_array_equal(alone.posterior, own.posterior)
    np.testing.assert_array_equal(alone.expected_error_km, own.expected_error_km)
    assert len(alone) == len(IMAGES)
    assert Ensemble([one]).calibrated
    assert not Ensemble([make_locator(0)]).calibrated


def test_answers_hold_what_the_calibration_says():
    """Radii, sets and probabilities are those of the table that a run writes, from the same places."""
    one = make_locator(1, calibrated=True)
    own, said = one.predict(IMAGES), one.compute_output(IMAGES)
    known = one.uncertainty.describe_places(said)
    assert sorted(own.radius_km) == ["50", "90", "95"]
    for level in ("50", "90", "95"):
        np.testing.assert_array_equal(own.radius_km[level], known[f"radius_{level}_km"])
        np.testing.assert_array_equal(own.sets[level].sum(axis=1), known[f"set_{level}_cells"])
        held = np.where(own.sets[level], own.posterior, 0.0).sum(axis=1)
        assert (own.sets[level][np.arange(len(own)), own.posterior.argmax(axis=1)]).all()
        assert (held > 0).all()
    np.testing.assert_allclose(own.posterior.sum(axis=1), 1.0)
    best, probability = own.top_cells(3)
    assert (np.diff(probability, axis=1) <= 0).all()
    np.testing.assert_array_equal(best[:, 0], known["cell"])
    np.testing.assert_allclose(probability[:, 0], known["cell_probability"])
    assert own.in_region.all()  # means of points on a convex land
    first, second = one.predict(IMAGES[:5]), one.predict(IMAGES[5:])
    whole = concatenate([first, second])
    np.testing.assert_allclose(whole.coords_deg, own.coords_deg, atol=1e-5)
    np.testing.assert_allclose(whole.radius_km["90"], own.radius_km["90"], rtol=1e-4)
    assert whole.sets["50"].shape == own.sets["50"].shape


def test_posteriors_are_averaged_where_grids_agree():
    members = [make_locator(seed, decoder=MedianDecoder()) for seed in (0, 1, 2)]
    both = Ensemble(members)
    assert both.grid is members[0].network.head.grid
    found = both.predict([IMAGES])
    with torch.no_grad():
        outs = [one.network(IMAGES, torch.ones(len(IMAGES), 4, dtype=torch.bool)) for one in members]
        posteriors = [one.network.head.posterior(out) for one, out in zip(members, outs, strict=True)]
    mean = torch.stack(posteriors).double().mean(dim=0)
    np.testing.assert_allclose(found.posterior, mean.numpy(), atol=1e-6)
    # The median of the mean posterior, by an optimiser that knows nothing of ours.
    points = to_unit(members[0].network.head.grid.class_points_deg)
    for row in range(4):
        weights = mean[row].numpy()

        def expected_km(deg: Any, weights: Any = weights) -> float:
            away = np.arccos(np.clip(points @ to_unit(deg[None])[0], -1, 1))
            return float(weights @ away) * 6371.0088

        best = minimize(expected_km, found.coords_deg[row], method="Nelder-Mead", options={"xatol": 1e-7})
        assert expected_km(found.coords_deg[row]) <= best.fun + 1e-4


def test_a_members_twin_changes_nothing():
    one = make_locator(3, calibrated=True)
    alone, twice = (
        Ensemble([one]).predict([IMAGES]),
        Ensemble([one, make_locator(3, calibrated=True)]).predict([IMAGES]),
    )
    np.testing.assert_allclose(twice.coords_deg, alone.coords_deg, atol=1e-5)
    np.testing.assert_allclose(twice.posterior, alone.posterior, atol=1e-6)
    np.testing.assert_allclose(twice.expected_error_km, alone.expected_error_km, rtol=1e-4)
    for level in ("50", "90", "95"):
        np.testing.assert_allclose(twice.radius_km[level], alone.radius_km[level], rtol=1e-4)
    hybrid = make_locator(3, kind=HybridHead)
    alone = Ensemble([hybrid]).predict([IMAGES])
    twice = Ensemble([hybrid, make_locator(3, kind=HybridHead)]).predict([IMAGES])
    np.testing.assert_allclose(twice.coords_deg, alone.coords_deg, atol=1e-5)


def test_members_with_other_decoders_get_the_median():
    mixed = Ensemble([make_locator(0, decoder=ArgmaxDecoder()), make_locator(0, decoder=MeanDecoder())])
    median = Ensemble([make_locator(0, decoder=MedianDecoder()), make_locator(0, decoder=MedianDecoder())])
    found, wanted = mixed.predict([IMAGES]), median.predict([IMAGES])
    np.testing.assert_allclose(found.coords_deg, wanted.coords_deg, atol=1e-6)


def test_points_by_geometric_median_where_grids_differ():
    members = [make_locator(seed, cells=cells, calibrated=True) for seed, cells in ((0, 9), (1, 16), (2, 25))]
    found = Ensemble(members).predict([IMAGES])
    assert found.posterior is None
    assert found.grid is None
    with pytest.raises(ValueError, match="has no cells"):
        found.top_cells(5)
    points = np.stack([one.predict_coords(IMAGES) for one in members], axis=1)
    for row, answer in enumerate(found.coords_deg):
        ours = haversine_km(np.repeat(answer[None], 3, axis=0), points[row]).sum()
        best = minimize(
            lambda deg, row=row: haversine_km(np.repeat(deg[None], 3, axis=0), points[row]).sum(),
            answer, method="Nelder-Mead", options={"xatol": 1e-7, "fatol": 1e-7},
        )  # fmt: skip
        assert ours <= best.fun + 1e-3
    expected = [one.predict(IMAGES).expected_error_km for one in members]
    np.testing.assert_allclose(found.expected_error_km, np.mean(expected, axis=0))
    pair = Ensemble(members[:2]).predict([IMAGES])  # between two, the middle
    distances = [haversine_km(pair.coords_deg, one.predict_coords(IMAGES)) for one in members[:2]]
    np.testing.assert_allclose(*distances, atol=1e-3)
    assert Ensemble([members[0], make_locator(1, cells=16)]).predict([IMAGES]).radius_km is None


def test_regressions_and_cells_answer_together():
    network = toy_network()
    network.head = RegressionHead.fit(
        in_features=network.fusion.output_size, region=REGION, train_coords_deg=toy_places()[0]
    )
    regression = Predictor(network, REGION, IMAGE)
    alone = Ensemble([regression]).predict([IMAGES])
    assert alone.posterior is None
    assert alone.expected_error_km is None
    np.testing.assert_array_equal(alone.coords_deg, regression.predict_coords(IMAGES))
    both = Ensemble([regression, make_locator(0)])
    assert both.grid is None
    assert both.predict([IMAGES]).coords_deg.shape == (len(IMAGES), 2)


def test_members_that_see_other_sizes_each_get_their_own():
    small, large = make_locator(0), make_locator(1)
    large.image = ImageSpec(size=48)
    both = Ensemble([small, large, make_locator(2)])
    assert [spec.size for spec in both.specs] == [32, 48]
    grown = torch.nn.functional.interpolate(IMAGES.flatten(0, 1).float(), size=48).byte().unflatten(0, (-1, 4))
    found = both.predict([IMAGES, grown])
    parts = [
        small.predict(IMAGES).posterior,
        large.predict(grown).posterior,
        make_locator(2).predict(IMAGES).posterior,
    ]
    np.testing.assert_allclose(found.posterior, np.mean(parts, axis=0), atol=1e-6)


def test_the_blind_answer_is_that_of_the_mean_place():
    one = make_locator(0)
    head = one.network.head
    with torch.no_grad():
        wanted = head.decode(head.linear.bias[None]).double().numpy()
    np.testing.assert_array_equal(Ensemble([one]).predict_prior().coords_deg, wanted)
    assert len(Ensemble([one, make_locator(1, cells=16)]).predict_prior()) == 1


def test_a_point_off_the_land_is_said_to_be():
    said = decode_output(make_locator(0).network.head, torch.zeros(2, 9), np.array([[45.3, 15.5], [44.0, 15.5]]))
    assert calibrate(said, REGION, None, None).in_region.tolist() == [True, False]


def test_what_does_not_go_together_is_refused(tmp_path: Path):
    with pytest.raises(ConfigError, match="run must name at least one run"):
        Ensemble([])
    other = make_locator(0)
    other.region = SphereRegion()
    with pytest.raises(ConfigError, match=r"runs of one region.*'Toyland and world'"):
        Ensemble([make_locator(0), other])
    with pytest.raises(MissingFileError, match="nowhere"):
        Ensemble.load([tmp_path / "nowhere"])
