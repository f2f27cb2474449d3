"""HybridHead: offsets by hand and by pyproj."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from pyproj import Geod
from support.toy_run import draw_places, fit_head

from geoguesser.errors import ConfigError
from geoguesser.geo.distance import EARTH_RADIUS_KM, haversine_km
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import SphereRegion
from geoguesser.model.decoder import ArgmaxDecoder, Decoder, MedianDecoder
from geoguesser.model.heads.hybrid import HybridHead

SPHERE_KM = Geod(a=EARTH_RADIUS_KM, f=0.0)


def fit(places: Any, **options: Any) -> Any:
    return fit_head(4, places, HybridHead, **{"decoder": ArgmaxDecoder(), **options})


def make_outputs(head: HybridHead, places: Any) -> torch.Tensor:
    """Returns outputs that are certain of each place's cell, with the true offsets in it."""
    target = head.targets(places)
    out = torch.zeros(len(places), head.output_size)
    rows = torch.arange(len(places))
    out[rows, target["cell"]] = 50.0
    out[:, head.num_logits :].view(len(places), -1, 2)[rows, target["cell"]] = target["offset"]
    return out


def test_it_starts_as_classification() -> None:
    places = draw_places(200)
    head = fit(places, decoder=MedianDecoder())
    plain = fit_head(4, places, decoder=MedianDecoder())
    assert head.output_size == 3 * plain.output_size
    fused = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    distance_km = haversine_km(head.decode(head(fused)).double(), plain.decode(plain(fused)).double())
    assert float(distance_km.max()) < 0.005


def test_offsets_are_east_and_north_in_sides_of_the_cell() -> None:
    places = draw_places(200)
    head = fit(places)
    offset = head.targets(places)["offset"].double().numpy()
    points = head.grid.class_points_deg[head.grid.assign(places)]
    azimuth, _, km = SPHERE_KM.inv(points[:, 1], points[:, 0], places[:, 1], places[:, 0])
    expected = np.stack((np.sin(np.radians(azimuth)), np.cos(np.radians(azimuth))), axis=-1)
    expected *= np.asarray(km)[:, None] / head.grid.cells.side_km
    assert np.abs(expected).max() < 1.0
    np.testing.assert_allclose(offset, expected, atol=1e-4)


@pytest.mark.parametrize("decoder", [ArgmaxDecoder(), MedianDecoder()])
def test_the_true_cell_and_offset_give_the_place(decoder: Decoder) -> None:
    places = draw_places(100, 1)
    head = fit(draw_places(200), decoder=decoder)
    decoded = head.decode(make_outputs(head, places)).double().numpy()
    assert haversine_km(decoded, places).max() < 0.05


def test_across_the_date_line_and_near_a_pole() -> None:
    places = np.array([[10.0, 179.99], [10.0, -179.99], [89.5, 10.0], [89.5, -120.0], [-33.0, 151.0]])
    head = fit(places, region=SphereRegion(), grid=SquareGrid(size=50))
    decoded = head.decode(make_outputs(head, places)).double().numpy()
    assert haversine_km(decoded, places).max() < 5.0  # a cell is 3,000 km wide, and a tangent plane is flat


def test_only_offsets_of_the_true_cell_are_trained() -> None:
    places = draw_places(30)
    head = fit(places)
    out = torch.randn(30, head.output_size, generator=torch.Generator().manual_seed(0)).requires_grad_()
    target = head.targets(places)
    torch.autograd.backward(head.loss(out, target))
    gradient = out.grad[:, head.num_logits :].view(30, -1, 2)
    trained = (gradient != 0).any(dim=-1)
    assert trained.sum(dim=1).tolist() == [1] * 30
    assert torch.equal(trained.int().argmax(dim=1), target["cell"])
    offsets = out.detach()[:, head.num_logits :].view(30, -1, 2)[torch.arange(30), target["cell"]].double().numpy()
    error = np.abs(offsets - target["offset"].double().numpy())
    huber = np.where(error < 0.5, 0.5 * error**2, 0.5 * (error - 0.25)).sum(axis=1).mean()
    cells = torch.nn.functional.cross_entropy(out[:, : head.num_logits], target["cell"])
    assert float(head.loss(out, target).detach()) == pytest.approx(float(cells.detach()) + huber, rel=1e-5)


def test_a_wrong_weight_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"^head\.offset_weight must be a number from 0 to 1000, got -1\.0"):
        fit(draw_places(9), offset_weight=-1.0)
