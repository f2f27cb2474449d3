"""Attribution against class-activation maps, gradients and masked forward passes, computed independently."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from support.toy_run import fit_head
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
from geoguesser.model.network import GeoNetwork

ALL = [True] * 4
FUSIONS: dict[str, Any] = {
    "mean": MeanFusion,
    "concat": ConcatFusion,
    "concat, view dropout": lambda size: ConcatFusion(size, view_dropout=0.3),
    "attention": lambda size: AttentionFusion(size, width=32),
}


def make_network(
    region: Any,
    fusion: str = "mean",
    *,
    head: Any = ClassificationHead,
    grid: GridBuilder | None = None,
    name: str = "tf_efficientnet_lite0",
) -> GeoNetwork:
    """Makes a network with random weights in every part, and a random centre of the head."""
    torch.manual_seed(0)
    backbone = TimmBackbone(name=name, pretrained=False)
    fused: Fusion = FUSIONS[fusion](backbone.feature_size)
    places_deg = np.random.default_rng(0).uniform((45.2, 15.5), (45.8, 18.5), (60, 2))
    options = {} if head is RegressionHead else {"grid": grid or SquareGrid(size=40), "decoder": MedianDecoder()}
    fitted = fit_head(fused.output_size, places_deg, head, region=region, **options)
    torch.nn.init.normal_(fitted.linear.weight, std=0.1)
    fitted.centre.copy_(0.1 * torch.randn(fused.output_size))
    fitted.spread.fill_(0.7)
    if isinstance(fused, AttentionFusion):
        torch.nn.init.normal_(fused.back.weight, std=0.1)
    return GeoNetwork(backbone, fused, fitted).eval()


def draw_views(count: int = 4, px: int = 64) -> Tensor:
    return torch.randint(0, 256, (count, 3, px, px), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


def compute_logits(network: GeoNetwork, images: Tensor, mask: list[bool]) -> Tensor:
    with torch.no_grad():
        return network.head.logits(network(images[None], torch.tensor([mask])))[0]


@pytest.mark.parametrize("fusion", ["mean", "concat"])
def test_maps_are_the_weights_applied_to_the_last_map(fusion: str, croatia):
    """Zhou et al.'s definition, by NumPy: the cell's weights times the map before pooling, and the bias."""
    network, images = make_network(croatia, fusion), draw_views()
    activation = attribution.compute_activation(network, images, torch.tensor(ALL))
    assert activation.method == attribution.EXACT_METHOD
    with torch.no_grad():
        last = network.backbone.model.forward_features(network.backbone.normalise(images)).numpy().astype(float)
    weights, bias = (part.detach().numpy().astype(float) for part in network.head.linear.parameters())
    centred = weights - weights.mean(axis=0)
    size = network.fusion.feature_size
    by_view = np.broadcast_to(centred[activation.cell].reshape(-1, size), (4, size)) / float(network.head.spread)
    by_view = by_view / (4 if fusion == "mean" else 1) / (last.shape[2] * last.shape[3])
    cam = np.einsum("vc,vchw->vhw", by_view, last)
    centre = np.broadcast_to(network.head.centre.numpy().reshape(-1, size), (4, size))
    average = np.einsum("vc,vc->v", by_view, centre)
    np.testing.assert_allclose(activation.maps, cam - average[:, None, None], atol=1e-5)
    constant = (bias - bias.mean())[activation.cell] - average.sum() * cam[0].size
    logits = compute_logits(network, images, ALL)
    assert cam.sum() + constant == pytest.approx(float(logits[activation.cell] - logits.mean()), abs=1e-4)
    assert activation.average == pytest.approx((bias - bias.mean())[activation.cell], abs=1e-4)


@pytest.mark.parametrize("present", [ALL, [True, False, True, True], [False, False, True, False]])
@pytest.mark.parametrize("fusion", ["mean", "concat", "concat, view dropout"])
@pytest.mark.parametrize("grid", [SquareGrid(size=40), StaggeredGrid(size=20)])
def test_maps_shares_and_the_average_sum_to_the_score(
    present: list[bool], fusion: str, grid: GridBuilder, croatia
):
    network, images, mask = make_network(croatia, fusion, grid=grid), draw_views(), torch.tensor(present)
    activation = attribution.compute_activation(network, images, mask)
    logits = compute_logits(network, images, present)
    assert activation.cell == int(logits.argmax())
    assert activation.score == pytest.approx(float(logits[activation.cell] - logits.mean()), abs=1e-4)
    assert float(activation.maps.sum()) + activation.average == pytest.approx(activation.score, abs=1e-4)
    assert not activation.maps[~mask].any()
    features = network.embed(images[None], mask[None])
    shares = attribution.compute_view_shares(network, features, mask[None], torch.tensor([activation.cell]))
    np.testing.assert_allclose(shares[0], activation.maps.sum(dim=(1, 2)), atol=1e-4)


def test_any_cell_can_be_explained(croatia):
    network, images = make_network(croatia), draw_views()
    logits = compute_logits(network, images, ALL)
    cell = int(logits.argmin())
    activation = attribution.compute_activation(network, images, torch.tensor(ALL), cell)
    assert activation.cell == cell
    assert activation.score == pytest.approx(float(logits[cell] - logits.mean()), abs=1e-4)


def test_a_fusion_that_is_not_linear_gets_grad_cam(croatia):
    """Follows the definition of Selvaraju et al., with a hook in a complete forward pass."""
    network, images = make_network(croatia, "attention"), draw_views()
    mask = torch.tensor([True, True, False, True])
    activation = attribution.compute_activation(network, images, mask)
    assert (activation.method, activation.average) == (attribution.GRADIENT_METHOD, None)
    outputs: list[Tensor] = []

    def record(module: Any, args: Any, out: Tensor) -> None:
        out.retain_grad()
        outputs.append(out)

    with network.backbone.model.bn2.register_forward_hook(record):
        logits = network.head.logits(network(images[None], mask[None]))[0]
    (logits[activation.cell] - logits.mean()).backward()
    (last,) = outputs
    weights = last.grad.mean(dim=(2, 3), keepdim=True)
    expected = torch.relu((weights * last).sum(dim=1)) * mask[:, None, None]
    np.testing.assert_allclose(activation.maps, expected.detach(), atol=1e-5)
    assert float(activation.maps.max()) > 0
    features = network.embed(images[None], mask[None]).detach()
    assert attribution.compute_view_shares(network, features, mask[None], torch.tensor([0])) is None


def test_a_backbone_that_goes_on_after_pooling_gets_grad_cam(croatia):
    network, images = make_network(croatia, name="mobilenetv3_small_050"), draw_views()
    activation = attribution.compute_activation(network, images, torch.tensor(ALL))
    assert activation.method == attribution.GRADIENT_METHOD
    assert activation.maps.shape == (4, 2, 2)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "side"), [("vit_tiny_patch16_224", 14), ("swin_tiny_patch4_window7_224", 7), ("convnext_atto", 7)]
)
def test_transformers_and_models_with_channels_last_have_maps(name: str, side: int, croatia):
    network, images = make_network(croatia, name=name), draw_views(px=224)
    last = network.backbone.find_last_map(images[:1])
    with torch.no_grad():
        np.testing.assert_allclose(last.features.detach(), network.backbone(images[:1]), atol=1e-4)
    assert last.to_spatial(last.leaf).shape[2:] == (side, side)
    activation = attribution.compute_activation(network, images, torch.tensor(ALL))
    assert activation.maps.shape == (4, side, side)
    assert float(activation.maps.max()) > 0


def test_a_map_without_rows_is_refused(croatia):
    network = make_network(croatia)
    with pytest.raises(
        CheckpointError, match=r"The last map of .* has shape \(1, 10, 8\), without rows and columns"
    ):
        network.backbone._find_layout(torch.zeros(1, 10, 8))


@pytest.mark.parametrize("head", [ClassificationHead, HybridHead, RegressionHead])
@pytest.mark.parametrize("fusion", list(FUSIONS))
def test_leaving_a_view_out_is_a_masked_forward_pass(fusion: str, head: Any, croatia):
    network = make_network(croatia, fusion, head=head)
    images = draw_views(12).unflatten(0, (3, 4))
    mask = torch.tensor([ALL, [True, False, True, True], [False, False, True, False]])
    result = attribution.leave_one_out(network, network.embed(images, mask).detach(), mask)
    assert (result.lost is None) == (head is RegressionHead)

    full = network(images, mask).detach()
    for view in range(4):
        without = mask.clone()
        without[:, view] = False
        out = network(images, without).detach()
        left = mask[:, view] & without.any(dim=1)
        assert torch.isnan(result.moved_km[~left, view]).all()
        assert torch.isnan(result.coords_deg[~left, view]).all()

        moved_km = haversine_km(network.head.decode(full).double(), network.head.decode(out).double())
        np.testing.assert_allclose(result.moved_km[left, view], moved_km[left], atol=0.2)
        if result.lost is not None:
            before, after = network.head.logits(full), network.head.logits(out)
            change = before - before.mean(dim=1, keepdim=True) - after + after.mean(dim=1, keepdim=True)
            lost = change[torch.arange(3), before.argmax(dim=1)]
            np.testing.assert_allclose(result.lost[left, view], lost[left], atol=1e-4)


def test_a_head_without_cells_has_no_maps(croatia):
    network = make_network(croatia, head=RegressionHead)
    with pytest.raises(CheckpointError, match="A head without cells has no class-activation maps"):
        attribution.compute_activation(network, draw_views(), torch.tensor(ALL))
    features, mask = torch.zeros(1, 4, 1280), torch.tensor([ALL])
    assert attribution.compute_view_shares(network, features, mask, torch.tensor([0])) is None


def test_the_first_filters_are_those_that_see_the_pixels(croatia):
    network = make_network(croatia)
    filters = attribution.get_first_filters(network)
    assert filters.shape == (32, 3, 3, 3)
    assert torch.equal(filters, network.backbone.model.conv_stem.weight)
