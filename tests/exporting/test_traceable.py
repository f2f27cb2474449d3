"""Exportable networks and programs against the network's own decoding."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from support.toy_run import REGION, TRAIN, toy_places
from torch import Tensor

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
from geoguesser.geo.region import Region, SphereRegion
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


def make_network(
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
    enlarge_weights(head)
    return GeoNetwork(backbone, fused, head).eval()


def make_regression_network(space: str, region: Region = REGION) -> GeoNetwork:
    network = make_network()
    network.head = RegressionHead.fit(
        in_features=network.fusion.output_size, region=region, train_coords_deg=toy_places()[0], space=space
    )
    enlarge_weights(network.head)
    return network.eval()


def enlarge_weights(head: Any) -> None:
    """Sets weights at which predictions differ between places."""
    torch.manual_seed(1)
    head.linear.reset_parameters()
    with torch.no_grad():
        head.linear.weight.mul_(20.0)


def make_views() -> tuple[Tensor, Tensor]:
    images = toy_places()[1]
    mask = torch.rand(images.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.7
    mask[0] = False
    return images, mask


@pytest.mark.parametrize("choice", CHOICES)
def test_it_predicts_as_the_network_does(choice: str) -> None:
    network = make_network(**CHOICES[choice])
    images, mask = make_views()
    with torch.no_grad():
        posterior, coords_deg = ExportableNetwork(network, temperature=1.7)(images, mask)
        out = network(images, mask)
        expected_deg = network.head.decode(out).double()

    assert float(compute_distance_km(coords_deg, expected_deg).max()) < 0.003  # float32 rounds by a metre
    expected = apply_temperature(network.head.logits(out).double().numpy(), 1.7)
    np.testing.assert_allclose(posterior.numpy(), expected, atol=1e-7)
    assert float(compute_distance_km(coords_deg[1:], coords_deg[:-1]).max()) > 1.0


@pytest.mark.parametrize(("space", "region"), [("crs", REGION), ("sphere", REGION), ("sphere", SphereRegion())])
def test_a_regression_head_predicts_before_points_move_to_the_land(space: str, region: Region) -> None:
    network = make_regression_network(space, region)
    exportable = ExportableNetwork(network)
    assert exportable.outputs == ("coords_deg",)

    images, mask = make_views()
    with torch.no_grad():
        (coords_deg,) = exportable(images, mask)
        out = network(images, mask)
    expected_deg = network.head.decode_unsnapped(out)
    assert float(haversine_km(coords_deg.numpy(), expected_deg).max()) < 0.002
    np.testing.assert_allclose(region.snap(expected_deg), network.head.decode(out).numpy(), atol=1e-5)


def test_probes_have_absent_views_and_a_place_without_views() -> None:
    single, several = make_probes(32)
    assert (single.images.shape, several.images.shape) == ((1, 4, 3, 32, 32), (5, 4, 3, 32, 32))
    assert single.images.dtype == torch.uint8
    assert several.mask.sum(dim=1).tolist()[:3] == [4, 0, 1]
    assert float(single.images.float().std()) > 20.0


def test_a_program_that_differs_is_refused() -> None:
    network, probes = ExportableNetwork(make_network(decoder=MeanDecoder())), make_probes(32)
    assert compute_difference(network.reference, network, probes) == OutputDifference(0.0, 0.0, 6)

    def shift(images: Tensor, mask: Tensor) -> list[Tensor]:
        posterior, coords_deg = network.reference(images, mask)
        return [posterior + 0.25, coords_deg + torch.tensor([0.01, 0.0])]

    difference = compute_difference(shift, network, probes)
    assert difference.places == 6
    assert difference.posterior == pytest.approx(0.25)
    assert difference.km == pytest.approx(0.01 * np.pi / 180.0 * 6371.0088, rel=1e-3)

    require_close(difference, "model.onnx", posterior=0.3, km=2.0)
    for limits in ({"posterior": 0.2, "km": 2.0}, {"posterior": 0.3, "km": 1.0}):
        with pytest.raises(
            CheckpointError, match=r"^model\.onnx differs from torch by 0\.25 in a probability and 1"
        ):
            require_close(difference, "model.onnx", **limits)


def test_nan_is_a_difference() -> None:
    network = ExportableNetwork(make_network(decoder=MeanDecoder()))

    def give_nan(images: Tensor, mask: Tensor) -> list[Tensor]:
        return [torch.full_like(output, torch.nan) for output in network.reference(images, mask)]

    difference = compute_difference(give_nan, network, make_probes(32))
    assert (difference.posterior, difference.km) == (np.inf, np.inf)


# Of the quick tests, tests/commands/test_export.py writes such programs once.
BACKBONES = ("mobilenetv3_small_050", "efficientnet_b0", "resnext50_32x4d")


@pytest.mark.slow
@pytest.mark.parametrize("choice", [*CHOICES, "crs", "sphere", *BACKBONES])
def test_programs_of_every_choice_predict_as_torch(choice: str, tmp_path: Path) -> None:
    if choice in ("crs", "sphere"):
        network = make_regression_network(choice)
    else:
        network = make_network(choice) if choice in BACKBONES else make_network(**CHOICES[choice])

    exportable = ExportableNetwork(network, temperature=0.8)
    program = export_program(exportable, 32)
    write_torch(program, tmp_path / "model.pt2", {"a": 1})
    write_onnx(program, tmp_path / "model.onnx", {"a": 1}, exportable.outputs)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["model.onnx", "model.pt2"]
    for opened in (open_torch(tmp_path / "model.pt2"), open_onnx(tmp_path / "model.onnx", threads=1)):
        difference = compute_difference(opened, exportable, make_probes(32))
        assert difference.km < 0.005
        assert (difference.posterior or 0.0) < 1e-5
