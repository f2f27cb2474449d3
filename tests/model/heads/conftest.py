"""Places of a small region, shared by the tests of heads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import shapely
from shapely.geometry import MultiPolygon
from support.toy_run import draw_places

from geoguesser.geo.region import PlaneRegion


@pytest.fixture(scope="module")
def region() -> PlaneRegion:
    """Region of the shape of an L, about 80 km wide, so that the centre of its bounding box is not land."""
    corner = shapely.box(15.0, 45.0, 16.0, 45.7).difference(shapely.box(15.3, 45.2, 16.1, 45.8))
    return PlaneRegion("Toyland", MultiPolygon([corner]), "EPSG:3765")


@pytest.fixture(scope="module")
def places(region: PlaneRegion) -> np.ndarray[Any, Any]:
    """Coordinates of places on the land in degrees (N, 2)."""
    coords_deg = draw_places(400)
    return coords_deg[region.contains(coords_deg)]
