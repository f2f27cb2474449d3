"""Regions that the tests of grids share."""

from __future__ import annotations

import pytest

from geoguesser.geo.region import PlaneRegion, Region, SphereRegion, country


@pytest.fixture(scope="session")
def regions(croatia: PlaneRegion, earth: SphereRegion) -> dict[str, Region]:
    """A region in its national CRS, one across the date line, and the world."""
    return {"croatia": croatia, "fiji": country("FJI"), "world": earth}
