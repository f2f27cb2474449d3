"""The exportable network against the network's own head; the polynomial against pyproj; programs opened again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy_run import REGION, TRAIN, toy_network, toy_places

from geoguesser.errors import CheckpointError
from geoguesser.exporting.programs import (
    OutputDifference,
    compute_difference,
    export_program,
    make_probes,
    open_onnx,
    open_torch,
    require_close,
    write_onnx,
    write_torch,
)
from geoguesser.exporting.traceable import ExportableNetwork, compute_distance_km
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.grid_builders import PyramidGrid
from geoguesser.geo.region import SphereRegion
from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.decoder import ArgmaxDecoder, Decoder, MeanDecoder, MedianDecoder, TopKDecoder
from geoguesser.model.fusion import AttentionFusion, ConcatFusion, MeanFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.heads.hybrid import HybridHead
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.model.losses import CrossEntropy
from geoguesser.model.network import GeoNetwork
from geoguesser.model.uncertainty import apply_temperature

CHOICES: dict[str, dict[str, Any]] = {
    "hybrid": {"kind": HybridHead, "decoder": MedianDecoder(temperature=0.7)},
    "combined grid, attention": {"fusion": AttentionFusion, "grid": PyramidGrid(sizes=(4, 16))},
    "concat, top-k": {"fusion": ConcatFusion, "decoder": TopKDecoder(k=3)},
    "argmax": {"decoder": ArgmaxDecoder()},
    "mean": {"decoder": MeanDecoder(temperature=1.4)},
}


def network_of(
    name: str = "test_resnet",
    *,
    kind: Any = ClassificationHead,
    fusion: Any = MeanFusion,
    grid: Any = None,
    decoder: Decoder | None = None,
) -> GeoNetwork:
    torch.manual_seed(0)
    backbone = TimmBackbone(name=name, pretrained=False)
    fused = fusion(backbone.feature_size)
    head = kind.fit(
        in_features=fused.output_size,
        region=REGION,
        train_coords_deg=toy_places()[0][:TRAIN],
        grid=grid or SquareGrid(size=9),
        loss=CrossEntropy(),
        decoder=decoder or MedianDecoder(),
    )
    spread(head)
    return GeoNetwork(backbone, fused, head).eval()


def spread(head: Any) -> None:
    """Weights at which places differ."""
    torch.manual_seed(1)
    head.linear.reset_parameters()
    with torch.no_grad():
        head.linear.weight.mul_(20.0)


def regression_of(space: str) -> GeoNetwork:
    network = network_of()
    network.head = RegressionHead.fit(
        in_features=network.fusion.output_size, region=REGION, train_coords_deg=toy_places()[0], space=space
    )
    spread(network.head)
    return network.eval()


def views() -> tuple[torch.Tensor, torch.Tensor]:
    images = toy_places()[1]
    mask = torch.rand(images.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.7
    mask[0] = False
    return images, mask


@pytest.mark.parametrize("choice", CHOICES)
def test_it_says_what_the_network_says(choice: str) -> None:
    network = network_of(**CHOICES[choice])
    images, mask = views()
    with torch.no_grad():
        posterior, coords_deg = ExportableNetwork(network, temperature=1.7)(images, mask)
        out = network(images, mask)
        own_deg = network.head.decode(out).double()
    assert float(compute_distance_km(coords_deg, own_deg).max()) < 0.003  # which are in 32 bits
    own = apply_temperature(network.head.logits(out).double().numpy(), 1.7)
    np.testing.assert_allclose(posterior.numpy(), own, atol=1e-7)
    assert float(compute_distance_km(coords_deg[1:], coords_deg[:-1]).max()) > 1.0


@pytest.mark.parametrize("space", ["crs", "sphere"])
def test_a_regression_head_answers_before_it_moves_to_the_land(space: str) -> None:
    network = regression_of(space)
    made = ExportableNetwork(network)
    assert made.outputs == ("coords_deg",)
    images, mask = views()
    with torch.no_grad():
        (coords_deg,) = made(images, mask)
        out = network(images, mask)
    own = network.head.decode_unsnapped(out)
    assert float(haversine_km(coords_deg.numpy(), own).max()) < 0.002
    snapped = network.head.decode(out).numpy()
    np.testing.assert_allclose(REGION.snap(own), snapped, atol=1e-5)


def test_probes_have_masked_views_and_a_place_without_any() -> None:
    one, five = make_probes(32)
    assert (one.images.shape, five.images.shape) == ((1, 4, 3, 32, 32), (5, 4, 3, 32, 32))
    assert one.images.dtype == torch.uint8
    assert five.mask.sum(dim=1).tolist()[:3] == [4, 0, 1]
    assert float(one.images.float().std()) > 20.0


def test_a_program_that_differs_is_refused() -> None:
    network = ExportableNetwork(network_of(decoder=MeanDecoder()))
    tried = make_probes(32)

    def shifted(images: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        posterior, coords_deg = network.reference(images, mask)
        return [posterior + 0.25, coords_deg + torch.tensor([0.01, 0.0])]

    found = compute_difference(shifted, network, tried)
    assert found.places == 6
    assert found.posterior == pytest.approx(0.25)
    assert found.km == pytest.approx(0.01 * np.pi / 180.0 * 6371.0088, rel=1e-3)
    assert compute_difference(network.reference, network, tried) == OutputDifference(0.0, 0.0, 6)
    require_close(found, "model.onnx", posterior=0.3, km=2.0)
    for most in ({"posterior": 0.2, "km": 2.0}, {"posterior": 0.3, "km": 1.0}):
        with pytest.raises(
            CheckpointError, match=r"^model\.onnx differs from torch by 0\.25 in a probability and 1"
        ):
            require_close(found, "model.onnx", **most)


def test_what_is_no_number_is_a_difference() -> None:
    network = ExportableNetwork(network_of(decoder=MeanDecoder()))

    def broken(images: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
        return [torch.full_like(one, torch.nan) for one in network.reference(images, mask)]

    found = compute_difference(broken, network, make_probes(32))
    assert (found.posterior, found.km) == (np.inf, np.inf)


def check_programs(network: GeoNetwork, folder: Path) -> None:
    made = ExportableNetwork(network, temperature=0.8)
    program = export_program(made, 32)
    write_torch(program, folder / "model.pt2", {"a": 1})
    write_onnx(program, folder / "model.onnx", {"a": 1}, made.outputs)
    assert sorted(one.name for one in folder.iterdir()) == ["model.onnx", "model.pt2"]
    for opened in (open_torch(folder / "model.pt2"), open_onnx(folder / "model.onnx", threads=1)):
        found = compute_difference(opened, made, make_probes(32))
        assert found.km < 0.005
        assert (found.posterior or 0.0) < 1e-5


@pytest.mark.slow  # tests/test_exporting.py writes one such in the quick tests
def test_programs_of_the_median_answer_as_torch(tmp_path: Path) -> None:
    check_programs(toy_median(), tmp_path)


def toy_median() -> GeoNetwork:
    network = toy_network()
    assert isinstance(network.head, ClassificationHead)
    network.head.decoder = MedianDecoder()
    return network


@pytest.mark.slow
@pytest.mark.parametrize("choice", CHOICES)
def test_programs_of_every_choice_answer_as_torch(choice: str, tmp_path: Path) -> None:
    check_programs(network_of(**CHOICES[choice]), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("space", ["crs", "sphere"])
def test_programs_of_regression_answer_as_torch(space: str, tmp_path: Path) -> None:
    check_programs(regression_of(space), tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "efficientnet_b0", "resnext50_32x4d"])
def test_programs_of_other_backbones_answer_as_torch(name: str, tmp_path: Path) -> None:
    check_programs(network_of(name), tmp_path)


def test_the_worlds_regression_needs_no_plane() -> None:
    network = network_of()
    network.head = RegressionHead.fit(
        in_features=network.fusion.output_size,
        region=SphereRegion(),
        train_coords_deg=toy_places()[0],
        space="sphere",
    )
    images, mask = views()
    with torch.no_grad():
        (coords_deg,) = ExportableNetwork(network.eval())(images, mask)
    assert coords_deg.shape == (len(images), 2)
