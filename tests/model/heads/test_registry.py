"""All heads: restored from a checkpoint's plain values, and exact under mixed precision."""

from __future__ import annotations

import io
from typing import Any

import pytest
import torch
from support.toy_run import fit_head

from geoguesser.geo.distance import haversine_km
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import PlaneRegion
from geoguesser.inference.checkpoint import to_plain_arrays, to_plain_tensors
from geoguesser.model.decoder import ArgmaxDecoder, MedianDecoder
from geoguesser.model.heads.base import Head
from geoguesser.model.heads.registry import HEADS, restore_head
from geoguesser.model.losses import SmoothedCrossEntropy

OPTIONS: dict[str, tuple[str, dict[str, Any]]] = {
    "mean": ("classification", {"grid": SquareGrid(size=12, point="clipped")}),
    "argmax": ("classification", {"decoder": ArgmaxDecoder()}),
    "hybrid": ("hybrid", {"loss": SmoothedCrossEntropy(), "decoder": MedianDecoder(), "offset_weight": 0.5}),
    "crs": ("regression", {"space": "crs"}),
    "sphere": ("regression", {"space": "sphere"}),
}


@pytest.fixture(params=OPTIONS)
def head(request: pytest.FixtureRequest, region: PlaneRegion, places: Any) -> Head:
    kind, options = OPTIONS[request.param]
    torch.manual_seed(0)
    head = fit_head(8, places[:100], HEADS[kind], region=region, **options)
    head.linear.reset_parameters()
    return head


def draw_features(count: int) -> torch.Tensor:
    return torch.randn(count, 8, generator=torch.Generator().manual_seed(4))


def test_state_survives_a_checkpoint(head: Head, region: PlaneRegion, places: Any) -> None:
    buffer = io.BytesIO()
    torch.save(to_plain_tensors(head.state()), buffer)
    buffer.seek(0)
    restored = restore_head(region, to_plain_arrays(torch.load(buffer, weights_only=True)))
    assert type(restored) is type(head) is HEADS[head.kind]
    assert restored.state().keys() == head.state().keys()

    restored.load_state_dict(head.state_dict())
    out = head(draw_features(20)).detach()
    assert torch.equal(restored.decode(out), head.decode(out))

    # The loss is not recorded: a restored head has only the targets that every loss needs.
    expected = head.targets(places)
    assert all(torch.equal(value, expected[name]) for name, value in restored.targets(places).items())


def test_mixed_precision_does_not_change_the_answer(head: Head) -> None:
    fused = draw_features(16)
    with torch.no_grad():
        expected = head.decode(head(fused))
        with torch.autocast("cpu", dtype=torch.bfloat16):
            decoded = head.decode(head(fused))
    assert float(haversine_km(decoded.double(), expected.double()).max()) < 0.001
