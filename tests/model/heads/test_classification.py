"""Heads: targets, hits, decoding and the way through a checkpoint's plain values."""

from __future__ import annotations

import copy
import dataclasses
import io
from typing import Any

import numpy as np
import pytest
import shapely
import torch
from shapely.geometry import MultiPolygon
from sklearn.metrics import top_k_accuracy_score

from geoguesser.errors import ConfigError, RegionError
from geoguesser.geo.distance import haversine_km, to_unit
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import PlaneRegion, Region, SphereRegion
from geoguesser.inference.checkpoint import to_plain_arrays, to_plain_tensors
from geoguesser.model.decoder import ArgmaxDecoder, MeanDecoder, MedianDecoder
from geoguesser.model.heads.classification import ClassificationHead, Head, RegressionHead
from geoguesser.model.heads.hybrid import HybridHead
from geoguesser.model.heads.registry import restore_head
from geoguesser.model.losses import CrossEntropy, SmoothedCrossEntropy

WEIRD = [0.0, 0.5, 1.0, -3.0, 7.0, 1e6, -1e30, float("inf"), float("-inf"), float("nan")]


@pytest.fixture(scope="module")
def region() -> PlaneRegion:
    """An L of about 80 km, so that the middle of its box is no land."""
    corner = shapely.box(15.0, 45.0, 16.0, 45.7).difference(shapely.box(15.3, 45.2, 16.1, 45.8))
    return PlaneRegion("Toyland", MultiPolygon([corner]), "EPSG:3765")


@pytest.fixture(scope="module")
def world() -> SphereRegion:
    return SphereRegion()


@pytest.fixture(scope="module")
def places(region: PlaneRegion) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(0)
    drawn = np.stack([rng.uniform(45.0, 45.7, 400), rng.uniform(15.0, 16.0, 400)], axis=-1)
    return drawn[region.contains(drawn)]


@pytest.fixture(scope="module")
def head(region: PlaneRegion, places: np.ndarray[Any, Any]) -> ClassificationHead:
    torch.manual_seed(0)
    return ClassificationHead.fit(
        in_features=8,
        region=region,
        train_coords_deg=places[:100],
        grid=SquareGrid(size=20),
        loss=CrossEntropy(),
        decoder=MeanDecoder(),
    )


def test_classes_are_the_grids(head: ClassificationHead, region: PlaneRegion, places: Any) -> None:
    grid = SquareGrid(size=20).fit(region, places[:100])
    assert head.output_size == head.linear.out_features == grid.num_cells > 6
    targets = head.targets(places)["cell"]
    assert targets.dtype == torch.int64
    np.testing.assert_array_equal(targets.numpy(), grid.assign(places))
    np.testing.assert_allclose(head.class_vectors.numpy(), to_unit(grid.class_points_deg), atol=1e-6)


def test_hits_agree_with_scikit_learn(head: ClassificationHead) -> None:
    generator = torch.Generator().manual_seed(1)
    out = torch.randn(200, head.output_size, generator=generator)
    target = torch.randint(0, head.output_size, (200,), generator=generator)
    hits = head.hits(out, {"cell": target})
    assert head.hit_names == ("cell_top1", "cell_top5")
    assert hits.dtype == torch.bool
    labels = np.arange(head.output_size)
    for column, k in enumerate((1, 5)):
        share = top_k_accuracy_score(target.numpy(), out.numpy(), k=k, labels=labels)
        assert 0 < share < 1
        assert float(hits[:, column].double().mean()) == pytest.approx(share)


def test_hits_with_fewer_than_five_cells(region: PlaneRegion, places: Any) -> None:
    few = ClassificationHead.fit(
        in_features=2,
        region=region,
        train_coords_deg=places[:1],
        grid=SquareGrid(size=20),
        loss=CrossEntropy(),
        decoder=MeanDecoder(),
    )
    assert few.output_size == 1
    assert few.hits(torch.zeros(3, 1), {"cell": torch.zeros(3, dtype=torch.int64)}).all()


def test_posterior_is_the_softmax(head: ClassificationHead) -> None:
    out = torch.randn(5, head.output_size, generator=torch.Generator().manual_seed(2)) * 10
    posterior = head.posterior(out)
    torch.testing.assert_close(posterior.sum(dim=1), torch.ones(5))
    exponential = np.exp(out.double().numpy())
    np.testing.assert_allclose(posterior.numpy(), exponential / exponential.sum(1, keepdims=True), atol=1e-6)
    assert head.posterior(out.bfloat16()).dtype == torch.float32


def test_sure_logits_decode_to_the_class_point(head: ClassificationHead) -> None:
    assert head.grid is not None
    found = head.decode(torch.eye(head.output_size) * 100)
    np.testing.assert_allclose(found.numpy(), head.grid.class_points_deg, atol=1e-4)


def test_loss_is_the_cell_loss(head: ClassificationHead) -> None:
    out = torch.randn(6, head.output_size, generator=torch.Generator().manual_seed(3))
    target = torch.arange(6)
    expected = -torch.log_softmax(out.double(), dim=1)[torch.arange(6), target].mean()
    assert float(head.loss(out, {"cell": target})) == pytest.approx(float(expected), rel=1e-5)


def test_training_starts_from_the_shares_of_the_cells(region: PlaneRegion, places: Any) -> None:
    parts = {"in_features": 8, "region": region, "train_coords_deg": places, "grid": SquareGrid(size=20)}
    made = ClassificationHead.fit(**parts, loss=CrossEntropy(), decoder=MeanDecoder())
    out = made(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    cells = made.targets(places)["cell"].numpy()
    shares = np.bincount(cells, minlength=made.num_logits) / len(places)
    np.testing.assert_allclose(made.posterior(out).detach().numpy(), np.tile(shares, (3, 1)), atol=1e-5)
    smooth = ClassificationHead.fit(**parts, loss=SmoothedCrossEntropy(tau=0.5), decoder=MeanDecoder())
    target = smooth.targets(places)
    expected = np.zeros(smooth.num_logits)
    np.add.at(expected, target["near"].numpy().ravel(), target["share"].double().numpy().ravel() / len(places))
    found = smooth.posterior(smooth(torch.zeros(1, 8))).detach().numpy()[0]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    even = ClassificationHead.fit(**parts, loss=CrossEntropy(balance=1.0), decoder=MeanDecoder())
    found = even.posterior(even(torch.zeros(1, 8))).detach().numpy()[0]
    np.testing.assert_allclose(found, 1 / even.num_logits, atol=1e-5)  # all cells hold places
    weights = even.targets(places)["weight"].numpy()
    np.testing.assert_allclose(weights * shares[cells] * even.num_logits, 1.0, rtol=1e-4)


def test_what_the_head_is_given_is_centred_and_scaled(head: ClassificationHead) -> None:
    made = copy.deepcopy(head)
    fused = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 9.0) + 100.0
    made.scale_by(fused)
    values = fused.double().numpy()
    np.testing.assert_allclose(made.centre.numpy(), values.mean(axis=0), rtol=1e-6)
    assert float(made.spread) == pytest.approx(np.sqrt(values.var(axis=0).mean()), rel=1e-6)
    with torch.no_grad():
        made.linear.weight.normal_(generator=torch.Generator().manual_seed(1))
    scaled = (values - values.mean(axis=0)) / np.sqrt(values.var(axis=0).mean())
    expected = scaled @ made.linear.weight.detach().double().numpy().T + made.linear.bias.detach().double().numpy()
    np.testing.assert_allclose(made(fused).detach().numpy(), expected, atol=1e-3)
    made.scale_by(fused[:1])  # no spread at all
    assert float(made.spread) == 1.0


def test_pieces_of_several_grids_sum_the_logits_of_their_cells(region: PlaneRegion, places: Any) -> None:
    grid = SquareGrid(size=20).fit(region, places)
    parents = np.stack((np.arange(grid.num_cells), grid.num_cells + np.arange(grid.num_cells) // 4), axis=-1)
    made = ClassificationHead(
        8, grid=dataclasses.replace(grid, parents=parents), loss=CrossEntropy(), decoder=MeanDecoder()
    )
    assert made.output_size == parents.max() + 1
    out = torch.randn(5, made.output_size, generator=torch.Generator().manual_seed(0))
    logits = made.logits(out)
    assert logits.shape == (5, grid.num_cells)
    for piece, (own, other) in enumerate(parents):
        torch.testing.assert_close(logits[:, piece], out[:, own] + out[:, other])
    assert made.posterior(out).sum(dim=1).tolist() == pytest.approx([1.0] * 5)
    target = made.targets(places[:5])
    expected = torch.nn.functional.cross_entropy(logits, target["cell"])
    torch.testing.assert_close(made.loss(out, target), expected)


@pytest.fixture(scope="module")
def regression(region: PlaneRegion, places: np.ndarray[Any, Any]) -> RegressionHead:
    return RegressionHead.fit(in_features=8, region=region, train_coords_deg=places[:100])


def test_targets_of_training_places_lie_in_0_to_1_with_one_scale(
    regression: RegressionHead, region: PlaneRegion, places: Any
) -> None:
    targets = regression.targets(places[:100])["point"].double().numpy()
    xy_m = region.to_metres(places[:100])
    widths = xy_m.max(axis=0) - xy_m.min(axis=0)
    assert widths[0] != pytest.approx(widths[1], rel=0.01)
    np.testing.assert_allclose(targets, (xy_m - xy_m.min(axis=0)) / widths.max(), atol=1e-6)
    assert targets.min() == 0.0
    assert targets.max() == pytest.approx(1.0)


def test_decoding_targets_gives_the_places_back(regression: RegressionHead, places: Any) -> None:
    found = regression.decode(regression.targets(places)["point"]).double().numpy()
    assert haversine_km(found, places).max() < 0.003


def test_bias_starts_at_the_mean_of_the_training_targets(regression: RegressionHead, places: Any) -> None:
    mean = regression.targets(places[:100])["point"].mean(dim=0)
    torch.testing.assert_close(regression.linear.bias.detach(), mean)


def test_one_training_place_is_enough(region: PlaneRegion, places: Any) -> None:
    head = RegressionHead.fit(in_features=2, region=region, train_coords_deg=places[:1])
    assert head.targets(places[:1])["point"].tolist() == [[0.0, 0.0]]
    found = head.decode(torch.zeros(1, 2)).double().numpy()
    assert haversine_km(found, places[:1]).max() < 0.003


@pytest.mark.parametrize("space", ["crs", "sphere"])
def test_any_output_decodes_to_land(region: PlaneRegion, places: Any, space: str) -> None:
    head = RegressionHead.fit(in_features=2, region=region, train_coords_deg=places[:100], space=space)
    rows = [[a, b, a][: head.output_size] for a in WEIRD for b in WEIRD]
    found = head.decode(torch.tensor(rows))
    assert found.dtype == torch.float32
    assert region.distance_to_land_km(found.double().numpy()).max() < 0.001  # float32 rounds by decimetres


def test_a_point_off_land_goes_to_the_nearest_land(regression: RegressionHead, region: PlaneRegion) -> None:
    middle = np.array([[45.5, 15.7]])  # in the corner that the L leaves open
    assert not region.contains(middle)[0]
    found = regression.decode(regression.targets(middle)["point"]).double().numpy()
    land = shapely.transform(region.land_deg, lambda xy: np.stack(region._forward.transform(*xy.T), axis=-1))
    away_m = land.distance(shapely.Point(region.to_metres(middle)[0]))
    assert float(haversine_km(found, middle)[0]) == pytest.approx(away_m / 1000, rel=0.005)


def test_sphere_targets_are_unit_vectors_and_decode_back(world: SphereRegion) -> None:
    cities = np.array([[45.8150, 15.9819], [-33.8688, 151.0], [40.7, -74.2], [-1.29, 36.82]])
    head = RegressionHead.fit(in_features=4, region=world, train_coords_deg=cities, space="sphere")
    targets = head.targets(cities)["point"]
    assert head.output_size == 3
    vectors = targets.double() * head.scale + torch.from_numpy(head.offset)
    torch.testing.assert_close(vectors.norm(dim=1), torch.ones(4, dtype=torch.float64))
    longer = (vectors * 7.0 - torch.from_numpy(head.offset)) / head.scale
    found = head.decode(longer.float()).double().numpy()  # the length of the vector does not count
    assert haversine_km(found, cities).max() < 0.003


@pytest.mark.parametrize("space", ["crs", "sphere"])
def test_a_countrys_targets_fill_a_range_of_one(region: PlaneRegion, places: Any, space: str) -> None:
    """On the sphere a country is small: unscaled, one step of a usual rate would lead across it."""
    head = RegressionHead.fit(in_features=2, region=region, train_coords_deg=places[:100], space=space)
    targets = head.targets(places[:100])["point"]
    assert float(targets.min()) == pytest.approx(0.0, abs=1e-5)
    assert float(targets.max()) == pytest.approx(1.0, abs=1e-5)


def test_any_output_decodes_to_land_of_the_world(world: SphereRegion) -> None:
    head = RegressionHead.fit(
        in_features=4, region=world, train_coords_deg=np.array([[45.0, 16.0]]), space="sphere"
    )
    rows = [[a, b, c] for a in WEIRD[:3] + WEIRD[-3:] for b in WEIRD[-4:] for c in WEIRD[:2] + WEIRD[-3:]]
    found = head.decode(torch.tensor(rows)).double().numpy()
    assert np.isfinite(found).all()
    assert world.distance_to_land_km(found).max() < 0.01


def test_the_world_has_no_plane(world: SphereRegion) -> None:
    with pytest.raises(ConfigError) as caught:
        RegressionHead.fit(in_features=4, region=world, train_coords_deg=np.zeros((1, 2)), space="crs")
    assert str(caught.value) == (
        "head.space must be sphere for region world, which has no plane, got 'crs'. Add head.space=sphere."
    )


def test_unknown_spaces_are_refused(region: PlaneRegion) -> None:
    with pytest.raises(ConfigError) as caught:
        RegressionHead.fit(in_features=4, region=region, train_coords_deg=np.zeros((1, 2)), space="plane")
    assert str(caught.value) == "head.space must be one of crs, sphere, got 'plane'."


def test_a_head_in_the_plane_needs_one_to_decode(world: SphereRegion) -> None:
    head = RegressionHead(2, region=world, space="crs", offset=np.zeros(2), scale=1.0)
    with pytest.raises(RegionError) as caught:
        head.decode(torch.zeros(1, 2))
    assert str(caught.value) == "region world has no plane. Use head.space=sphere."


def test_regression_loss_is_the_mean_square(regression: RegressionHead) -> None:
    out, target = torch.tensor([[0.0, 1.0], [0.5, 0.5]]), torch.tensor([[0.0, 0.0], [0.0, 1.0]])
    assert float(regression.loss(out, {"point": target})) == pytest.approx((0 + 1 + 0.25 + 0.25) / 4)


def test_regression_reports_no_hits(regression: RegressionHead) -> None:
    assert regression.hit_names == ()
    assert tuple(regression.hits(torch.zeros(5, 2), {"point": torch.zeros(5, 2)}).shape) == (5, 0)


@pytest.mark.parametrize("kind", ["classification", "regression"])
def test_mixed_precision_keeps_the_heads_answer(
    head: ClassificationHead, regression: RegressionHead, kind: str
) -> None:
    chosen: Head = head if kind == "classification" else regression
    fused = torch.randn(16, 8, generator=torch.Generator().manual_seed(4))
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        found = chosen.decode(chosen(fused))
    with torch.no_grad():
        expected = chosen.decode(chosen(fused))
    assert float(haversine_km(found.double(), expected.double()).max()) < 0.001


@pytest.mark.parametrize("kind", ["mean", "argmax", "crs", "sphere", "hybrid"])
def test_state_survives_a_checkpoint(region: Region, places: Any, kind: str) -> None:
    made: Head
    if kind == "hybrid":
        made = HybridHead.fit(
            in_features=8,
            region=region,
            train_coords_deg=places[:100],
            grid=SquareGrid(size=12),
            loss=SmoothedCrossEntropy(),
            decoder=MedianDecoder(),
            offset_weight=0.5,
        )
        made.linear.reset_parameters()
    elif kind in ("crs", "sphere"):
        made = RegressionHead.fit(in_features=8, region=region, train_coords_deg=places, space=kind)
    else:
        made = ClassificationHead.fit(
            in_features=8,
            region=region,
            train_coords_deg=places[:100],
            grid=SquareGrid(size=12, point="clipped"),
            loss=CrossEntropy(label_smoothing=0.1),
            decoder=MeanDecoder() if kind == "mean" else ArgmaxDecoder(),
        )
    buffer = io.BytesIO()
    torch.save(to_plain_tensors(made.state()), buffer)
    buffer.seek(0)
    again = restore_head(region, to_plain_arrays(torch.load(buffer, weights_only=True)))
    assert type(again) is type(made)
    again.load_state_dict(made.state_dict())
    out = made(torch.randn(20, 8, generator=torch.Generator().manual_seed(5))).detach()
    assert torch.equal(again.decode(out), made.decode(out))
    expected = made.targets(places)
    assert all(torch.equal(value, expected[name]) for name, value in again.targets(places).items())
    assert again.state().keys() == made.state().keys()
