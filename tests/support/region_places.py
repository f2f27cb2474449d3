"""Places on the land of a region."""

from __future__ import annotations

import numpy as np

from geoguesser.geo.region import Region


def sample_land(region: Region, count: int, seed: int = 0) -> np.ndarray:
    """Draws (count, 2) coordinates on the land, from a box around it."""
    west, south, east, north = region.land_deg.bounds
    coords_deg = np.random.default_rng(seed).uniform((south, west), (north, east), (40 * count, 2))
    return coords_deg[region.contains(coords_deg)][:count]
