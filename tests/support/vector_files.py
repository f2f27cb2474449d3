"""Vector layers and tables of places for tests of plans."""

from __future__ import annotations

from pathlib import Path

import geopandas
import numpy as np


def write_layer(path: Path, shapes: list, crs: object = 4326) -> Path:
    """Writes shapes as a layer; the format follows from the file's suffix."""
    geopandas.GeoDataFrame(geometry=shapes, crs=crs).to_file(path)
    return path


def write_places_csv(path: Path, coords_deg: np.ndarray) -> Path:
    """Writes (N, 2) latitudes and longitudes as a CSV file with the columns uuid, latitude, longitude."""
    rows = [f"p{number},{lat!r},{lon!r}" for number, (lat, lon) in enumerate(coords_deg.tolist())]
    path.write_text("\n".join(["uuid,latitude,longitude", *rows]) + "\n")
    return path
