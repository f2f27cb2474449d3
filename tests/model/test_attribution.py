"""Attribution against class-activation maps, gradients and masked forwards that are computed another way."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from geoguesser.errors import CheckpointError
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import GridBuilder, SquareGrid
from geoguesser.geo.grid_builders import StaggeredGrid
from geoguesser.model import attribution
from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.decoder import MedianDecoder
from geoguesser.model.fusion import AttentionFusion, ConcatFusion, Fusion, MeanFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.heads.hybrid import HybridHead
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.model.losses import CrossEntropy
from geoguesser.model.network import GeoNetwork

NAME = "tf_efficientnet_lite0"
ALL = [True] * 4
FUSIONS: dict[str, Any] = {
    "mean": MeanFusion,
    "concat": ConcatFusion,
    "concat, view dropout": lambda size: ConcatFusion(size, view_dropout=0.3),
    "attention": lambda size: AttentionFusion(size, width=32),
}


def places_deg(count: int = 60) -> np.ndarray:
    return np.random.default_rng(0).uniform((45.2, 15.5), (45.8, 18.5), (count, 2))


def head_for(kind: Any, size: int, region: Any, grid: GridBuilder) -> Any:
    parts: dict[str, Any] = {"in_features": size, "region": region, "train_coords_deg": places_deg()}
    if kind is not RegressionHead:
        parts |= {"grid": grid, "loss": CrossEntropy(), "decoder": MedianDecoder()}
    return kind.fit(**parts)


def network_of(
    region: Any,
    fusion: str = "mean",
    *,
    head: Any = ClassificationHead,
    grid: GridBuilder | None = None,
    name: str = NAME,
) -> GeoNetwork:
    """A network with weights of its own in every part, centre and spread of the head included."""
    torch.manual_seed(0)
    backbone = TimmBackbone(name=name, pretrained=False)
    fused: Fusion = FUSIONS[fusion](backbone.feature_size)
    made = head_for(head, fused.output_size, region, grid or SquareGrid(size=40))
    torch.nn.init.normal_(made.linear.weight, std=0.1)
    made.centre.copy_(0.1 * torch.randn(fused.output_size))
    made.spread.fill_(0.7)
    if isinstance(fused, AttentionFusion):
        torch.nn.init.normal_(fused.back.weight, std=0.1)
    return GeoNetwork(backbone, fused, made).eval()


def views(count: int = 4, px: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def logits_of(network: GeoNetwork, images: Tensor, mask: list[bool]) -> Tensor:
    with torch.no_grad():
        return network.head.logits(network(images[None], torch.tensor([mask])))[0]


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_maps_are_the_weights_applied_to_the_last_map(fusion: str, croatia):
    """Zhou et al.'s definition, by NumPy: the cell's weights times the map before pooling, and the bias."""
    network, images = network_of(croatia, fusion), views()
    found = attribution.compute_activation(network, images, torch.tensor(ALL))
    assert found.method == attribution.EXACT_METHOD
    with torch.no_grad():
        last = network.backbone.model.forward_features(network.backbone.normalise(images)).numpy().astype(float)
    weights, bias = (part.detach().numpy().astype(float) for part in network.head.linear.parameters())
    own = weights - weights.mean(axis=0)
    size = network.fusion.feature_size
    by_view = np.broadcast_to(own[found.cell].reshape(-1, size), (4, size)) / float(network.head.spread)
    by_view = by_view / (4 if fusion == "mean" else 1) / (last.shape[2] * last.shape[3])
    cam = np.einsum("vc,vchw->vhw", by_view, last)
    centre = np.broadcast_to(network.head.centre.numpy().reshape(-1, size), (4, size))
    average = np.einsum("vc,vc->v", by_view, centre)
    np.testing.assert_allclose(found.maps, cam - average[:, None, None], atol=1e-5)
    constant = (bias - bias.mean())[found.cell] - average.sum() * cam[0].size
    logits = logits_of(network, images, ALL)
    assert cam.sum() + constant == pytest.approx(float(logits[found.cell] - logits.mean()), abs=1e-4)
    assert found.average == pytest.approx((bias - bias.mean())[found.cell], abs=1e-4)


@pytest.mark.parametrize("mask", [ALL, [True, False, True, True], [False, False, True, False]])
@pytest.mark.parametrize("fusion", ["mean", "concat", "concat, view dropout"])
@pytest.mark.parametrize("grid", [SquareGrid(size=40), StaggeredGrid(size=20)])
def test_maps_shares_and_the_average_sum_to_the_score(mask: list[bool], fusion: str, grid: GridBuilder, croatia):
    network, images, there = network_of(croatia, fusion, grid=grid), views(), torch.tensor(mask)
    found = attribution.compute_activation(network, images, there)
    logits = logits_of(network, images, mask)
    assert found.cell == int(logits.argmax())
    assert found.score == pytest.approx(float(logits[found.cell] - logits.mean()), abs=1e-4)
    assert float(found.maps.sum()) + found.average == pytest.approx(found.score, abs=1e-4)
    assert not found.maps[~there].any()
    features = network.embed(images[None], there[None])
    shares = attribution.compute_view_shares(network, features, there[None], torch.tensor([found.cell]))
    np.testing.assert_allclose(shares[0], found.maps.sum(dim=(1, 2)), atol=1e-4)


@pytest.mark.parametrize("fusion", ["mean", "concat", "concat, view dropout"])
@pytest.mark.parametrize("mask", [ALL, [True, False, False, True]])
def test_views_that_are_average_have_no_share(fusion: str, mask: list[bool], croatia):
    network, there = network_of(croatia, fusion), torch.tensor(mask)
    average = network.fusion.split_fused(network.head.centre, there)[None] * there[None, :, None]
    if fusion == "mean" or all(mask):
        fused = network.fusion(average, there[None])
        np.testing.assert_allclose(fused[0], network.head.centre, atol=1e-6)
    shares = attribution.compute_view_shares(network, average, there[None], torch.tensor([3]))
    np.testing.assert_allclose(shares, 0.0, atol=1e-6)


def test_another_cell_may_be_asked_for(croatia):
    network, images = network_of(croatia), views()
    logits = logits_of(network, images, ALL)
    cell = int(logits.argmin())
    found = attribution.compute_activation(network, images, torch.tensor(ALL), cell)
    assert found.cell == cell
    assert found.score == pytest.approx(float(logits[cell] - logits.mean()), abs=1e-4)


def test_a_fusion_that_is_not_linear_gets_grad_cam(croatia):
    """Selvaraju et al.'s definition, by hooks around a whole forward."""
    network, images = network_of(croatia, "attention"), views()
    mask = torch.tensor([True, True, False, True])
    found = attribution.compute_activation(network, images, mask)
    assert (found.method, found.average) == (attribution.GRADIENT_METHOD, None)
    kept: list[Tensor] = []

    def keep(module: Any, given: Any, out: Tensor) -> None:
        out.retain_grad()
        kept.append(out)

    with network.backbone.model.bn2.register_forward_hook(keep):
        logits = network.head.logits(network(images[None], mask[None]))[0]
    (logits[found.cell] - logits.mean()).backward()
    (last,) = kept
    weights = last.grad.mean(dim=(2, 3), keepdim=True)
    expected = torch.relu((weights * last).sum(dim=1)) * mask[:, None, None]
    np.testing.assert_allclose(found.maps, expected.detach(), atol=1e-5)
    assert float(found.maps.max()) > 0
    features = network.embed(images[None], mask[None]).detach()
    assert attribution.compute_view_shares(network, features, mask[None], torch.tensor([0])) is None


def test_a_backbone_that_goes_on_after_pooling_gets_grad_cam(croatia):
    network, images = network_of(croatia, name="mobilenetv3_small_050"), views()
    found = attribution.compute_activation(network, images, torch.tensor(ALL))
    assert found.method == attribution.GRADIENT_METHOD
    assert found.maps.shape == (4, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"), [("vit_tiny_patch16_224", 14), ("swin_tiny_patch4_window7_224", 7), ("convnext_atto", 7)]
)
def test_transformers_and_maps_with_channels_last_have_maps_as_well(name: str, side: int, croatia):
    network, images = network_of(croatia, name=name), views(px=224)
    last = network.backbone.find_last_map(images[:1])
    with torch.no_grad():
        np.testing.assert_allclose(last.features.detach(), network.backbone(images[:1]), atol=1e-4)
    assert last.to_spatial(last.leaf).shape[2:] == (side, side)
    found = attribution.compute_activation(network, images, torch.tensor(ALL))
    assert found.maps.shape == (4, side, side)
    assert float(found.maps.max()) > 0


def test_a_map_without_rows_is_refused(croatia):
    network = network_of(croatia)
    with pytest.raises(
        CheckpointError, match=r"The last map of .* has shape \(1, 10, 8\), without rows and columns"
    ):
        network.backbone._find_layout(torch.zeros(1, 10, 8))


@pytest.mark.parametrize("head", [ClassificationHead, HybridHead, RegressionHead])
@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_leaving_a_view_out_is_a_masked_forward(fusion: str, head: Any, croatia):
    network = network_of(croatia, fusion, head=head)
    images = views(12).unflatten(0, (3, 4))
    mask = torch.tensor([ALL, [True, False, True, True], [False, False, True, False]])
    features = network.embed(images, mask).detach()
    found = attribution.leave_one_out(network, features, mask)
    with torch.no_grad():
        whole = network(images, mask)
        answers = network.head.decode(whole).double()
        for view in range(4):
            without = mask.clone()
            without[:, view] = False
            out = network(images, without)
            other = network.head.decode(out).double()
            for place in range(3):
                if not mask[place, view] or not without[place].any():
                    assert torch.isnan(found.moved_km[place, view])
                    assert torch.isnan(found.coords_deg[place, view]).all()
                    continue
                moved = float(haversine_km(answers[place], other[place]))
                assert float(found.moved_km[place, view]) == pytest.approx(moved, abs=0.2)
                if head is RegressionHead:
                    continue
                before, after = (network.head.logits(one)[place] for one in (whole, out))
                cell = int(before.argmax())
                lost = float((before[cell] - before.mean()) - (after[cell] - after.mean()))
                assert float(found.lost[place, view]) == pytest.approx(lost, abs=1e-4)
    assert (found.lost is None) == (head is RegressionHead)


def test_a_head_without_cells_has_no_maps(croatia):
    network = network_of(croatia, head=RegressionHead)
    with pytest.raises(CheckpointError, match="A head without cells has no class-activation maps"):
        attribution.compute_activation(network, views(), torch.tensor(ALL))
    assert (
        attribution.compute_view_shares(network, torch.zeros(1, 4, 1280), torch.tensor([ALL]), torch.tensor([0]))
        is None
    )


def test_the_first_filters_are_those_that_see_the_pixels(croatia):
    network = network_of(croatia)
    filters = attribution.get_first_filters(network)
    assert filters.shape == (32, 3, 3, 3)
    assert torch.equal(filters, network.backbone.model.conv_stem.weight)
