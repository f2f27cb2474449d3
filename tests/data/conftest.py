"""Small roots of places with real JPEG files, and a land for them to lie on."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
import simplejpeg

from geoguesser.geo.region import PlaneRegion

HEADINGS = (0, 90, 180, 270)
WEST, SOUTH, EAST, NORTH = 14.0, 44.0, 18.0, 46.0  # the land of the tests, a box


def picture(uuid: str, heading: int, px: int) -> np.ndarray:
    """(px, px, 3) RGB: a colour that belongs to the place and heading alone, brighter to the right."""
    colour = np.frombuffer(hashlib.sha256(f"{uuid}/{heading}".encode()).digest()[:3], np.uint8)
    ramp = np.linspace(0.5, 1.0, px)[None, :, None]
    return np.ascontiguousarray(np.broadcast_to(colour * ramp, (px, px, 3)).round().astype(np.uint8))


def write_views(folder: Path, uuid: str, px: int = 24) -> None:
    """The four views of one place."""
    folder.mkdir(parents=True, exist_ok=True)
    for heading in HEADINGS:
        data = simplejpeg.encode_jpeg(picture(uuid, heading, px), quality=95, colorsubsampling="444")
        (folder / f"{heading}.jpg").write_bytes(data)


def write_csv(file: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> None:
    """A table of places; the header is uuid, latitude, longitude where none is given."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header or ("uuid", "latitude", "longitude"), *rows])


def coords_for(count: int, seed: int = 0) -> np.ndarray:
    """(count, 2) latitude and longitude inside the box, six decimals."""
    draws = np.random.default_rng(seed).uniform((SOUTH, WEST), (NORTH, EAST), (count, 2))
    return draws.round(6)


def write_root(
    root: Path,
    ids: Sequence[str],
    *,
    columns: dict[str, Sequence[object]] | None = None,
    px: int = 24,
    seed: int = 0,
) -> Path:
    """A root with data.csv and images/<uuid>; places lie where `coords_for` puts them."""
    columns = columns or {}
    coords = coords_for(len(ids), seed).tolist()
    rows = [[uuid, *coords[at], *(values[at] for values in columns.values())] for at, uuid in enumerate(ids)]
    write_csv(root / "data.csv", rows, ("uuid", "latitude", "longitude", *columns))
    for uuid in ids:
        write_views(root / "images" / uuid, uuid, px)
    return root


@pytest.fixture(scope="session")
def land() -> PlaneRegion:
    """A box around Croatia."""
    return PlaneRegion("box", shapely.MultiPolygon([shapely.box(WEST, SOUTH, EAST, NORTH)]), "EPSG:3765")


@pytest.fixture(scope="session")
def write() -> SimpleNamespace:
    """The functions above as `write.root(folder, ids)` and so on."""
    return SimpleNamespace(root=write_root, views=write_views, csv=write_csv, coords=coords_for, picture=picture)
