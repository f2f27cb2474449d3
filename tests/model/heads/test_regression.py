"""RegressionHead: scaled targets, decoding to the land, and errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
import torch

from geoguesser.errors import ConfigError
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import PlaneRegion, SphereRegion
from geoguesser.model.heads.regression import RegressionHead

EXTREMES = [0.0, 0.5, 1.0, -3.0, 7.0, 1e6, -1e30, float("inf"), float("-inf"), float("nan")]


@pytest.fixture(scope="module")
def head(region: PlaneRegion, places: Any) -> RegressionHead:
    return RegressionHead.fit(in_features=8, region=region, train_coords_deg=places[:100])


def test_targets_of_training_places_lie_in_0_to_1_with_one_scale(
    head: RegressionHead, region: PlaneRegion, places: Any
) -> None:
    targets = head.targets(places[:100])["point"].double().numpy()
    xy_m = region.to_metres(places[:100])
    widths = xy_m.max(axis=0) - xy_m.min(axis=0)
    assert widths[0] != pytest.approx(widths[1], rel=0.01)
    np.testing.assert_allclose(targets, (xy_m - xy_m.min(axis=0)) / widths.max(), atol=1e-6)


def test_targets_of_a_country_on_the_sphere_fill_a_range_of_one(region: PlaneRegion, places: Any) -> None:
    head = RegressionHead.fit(in_features=2, region=region, train_coords_deg=places[:100], space="sphere")
    targets = head.targets(places[:100])["point"]
    assert float(targets.min()) == pytest.approx(0.0, abs=1e-5)
    assert float(targets.max()) == pytest.approx(1.0, abs=1e-5)


def test_targets_decode_to_the_places(head: RegressionHead, places: Any) -> None:
    decoded = head.decode(head.targets(places)["point"]).double().numpy()
    assert haversine_km(decoded, places).max() < 0.003


def test_the_bias_starts_at_the_mean_of_the_training_targets(head: RegressionHead, places: Any) -> None:
    mean = head.targets(places[:100])["point"].mean(dim=0)
    torch.testing.assert_close(head.linear.bias.detach(), mean)


def test_one_training_place_is_enough(region: PlaneRegion, places: Any) -> None:
    head = RegressionHead.fit(in_features=2, region=region, train_coords_deg=places[:1])
    assert head.targets(places[:1])["point"].tolist() == [[0.0, 0.0]]
    decoded = head.decode(torch.zeros(1, 2)).double().numpy()
    assert haversine_km(decoded, places[:1]).max() < 0.003


@pytest.mark.parametrize("space", ["crs", "sphere"])
def test_any_output_decodes_to_land(region: PlaneRegion, places: Any, space: str) -> None:
    head = RegressionHead.fit(in_features=2, region=region, train_coords_deg=places[:100], space=space)
    rows = [[a, b, a][: head.output_size] for a in EXTREMES for b in EXTREMES]
    decoded = head.decode(torch.tensor(rows))
    assert decoded.dtype == torch.float32
    assert region.distance_to_land_km(decoded.double().numpy()).max() < 0.001  # float32 rounds to decimetres


def test_any_output_decodes_to_land_of_the_world(earth: SphereRegion) -> None:
    head = RegressionHead.fit(
        in_features=4, region=earth, train_coords_deg=np.array([[45.0, 16.0]]), space="sphere"
    )
    values = EXTREMES[:3] + EXTREMES[-3:]
    decoded = head.decode(torch.tensor([[a, b, c] for a in values for b in EXTREMES[-4:] for c in values]))
    assert bool(torch.isfinite(decoded).all())
    assert earth.distance_to_land_km(decoded.double().numpy()).max() < 0.01


def test_a_point_off_land_moves_to_the_nearest_land(head: RegressionHead, region: PlaneRegion) -> None:
    centre = np.array([[45.5, 15.7]])  # in the corner that the L leaves open
    assert not region.contains(centre)[0]
    decoded = head.decode(head.targets(centre)["point"]).double().numpy()
    land = shapely.transform(region.land_deg, lambda xy: np.stack(region._forward.transform(*xy.T), axis=-1))
    distance_m = land.distance(shapely.Point(region.to_metres(centre)[0]))
    assert float(haversine_km(decoded, centre)[0]) == pytest.approx(distance_m / 1000, rel=0.005)


def test_sphere_targets_are_unit_vectors_of_which_only_the_direction_counts(earth: SphereRegion) -> None:
    cities = np.array([[45.8150, 15.9819], [-33.8688, 151.0], [40.7, -74.2], [-1.29, 36.82]])
    head = RegressionHead.fit(in_features=4, region=earth, train_coords_deg=cities, space="sphere")
    assert head.output_size == 3
    vectors = head.targets(cities)["point"].double() * head.scale + torch.from_numpy(head.offset)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4, dtype=torch.float64))

    longer = (vectors * 7.0 - torch.from_numpy(head.offset)) / head.scale
    assert haversine_km(head.decode(longer.float()).double().numpy(), cities).max() < 0.003


@pytest.mark.parametrize(
    ("space", "rule"),
    [("crs", "sphere for region world, .* got 'crs'"), ("plane", "one of crs, sphere, got 'plane'")],
)
def test_spaces_that_the_region_lacks_are_refused(earth: SphereRegion, space: str, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^head.space must be {rule}"):
        RegressionHead.fit(in_features=4, region=earth, train_coords_deg=np.zeros((1, 2)), space=space)


def test_the_loss_is_the_mean_square(head: RegressionHead) -> None:
    out, target = torch.tensor([[0.0, 1.0], [0.5, 0.5]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert float(head.loss(out, {"point": target})) == pytest.approx((0 + 1 + 0.25 + 0.25) / 4)


def test_it_has_no_cells(head: RegressionHead) -> None:
    out = torch.zeros(5, 2)
    assert (head.hit_names, head.logits(out), head.points(out)) == ((), None, None)
    assert tuple(head.hits(out, {"point": out}).shape) == (5, 0)
