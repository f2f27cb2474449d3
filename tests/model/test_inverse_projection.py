"""Polynomials of the inverse of a CRS against pyproj."""

from __future__ import annotations

import numpy as np
import pyproj
import pytest
import shapely
import torch
from shapely.geometry import MultiPolygon

from geoguesser.errors import RegionError
from geoguesser.geo.distance import from_unit, haversine_km
from geoguesser.geo.region import PlaneRegion
from geoguesser.model import inverse_projection
from geoguesser.model.inverse_projection import InverseProjection


# Boxes around Croatia, Russia and Antarctica.
@pytest.mark.parametrize(
    ("box_deg", "crs"),
    [((13.4, 42.3, 19.5, 46.6), "EPSG:3765"), ((27, 41, 180, 78), None), ((-180, -90, 180, -70), "EPSG:3031")],
)
def test_it_agrees_with_pyproj_to_a_metre(box_deg: tuple[float, ...], crs: str | None) -> None:
    region = PlaneRegion("land", MultiPolygon([shapely.box(*box_deg)]), crs)
    inverse = InverseProjection.fit(region)

    # A quarter of the points lies on the western edge, another quarter on the northern one.
    west, south, east, north = region.land_m.bounds
    random = np.random.default_rng(0)
    xy_m = np.stack([random.uniform(west, east, 2000), random.uniform(south, north, 2000)], axis=-1)
    xy_m[:500, 0], xy_m[500:1000, 1] = west, north

    longitude, latitude = pyproj.Transformer.from_crs(region.crs, 4326, always_xy=True).transform(*xy_m.T)
    coords_deg = from_unit(inverse(torch.from_numpy(xy_m))).numpy()
    assert float(haversine_km(coords_deg, np.stack([latitude, longitude], axis=-1)).max()) < 0.001

    outside = inverse(torch.tensor([[west - 1e6, north + 1e9], [torch.nan, south]], dtype=torch.float64))
    edge = inverse(torch.tensor([[west, north]], dtype=torch.float64))
    torch.testing.assert_close(outside[:1], edge)
    assert bool(torch.isfinite(outside).all())


def test_a_crs_that_no_polynomial_follows_is_refused(croatia: PlaneRegion, monkeypatch) -> None:
    monkeypatch.setattr(inverse_projection, "POLYNOMIAL_DEGREES", (1, 2))
    rule = r"^the CRS of region Croatia cannot be exported: .*, got '.* m off'\. Train with head\.space=sphere"
    with pytest.raises(RegionError, match=rule):
        InverseProjection.fit(croatia)
