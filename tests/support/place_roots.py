"""Small roots of places with real JPEG files, in a region that is a box."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import shapely
import simplejpeg

from geoguesser.data.augment import Augment
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.splits import RandomSplit
from geoguesser.geo.region import PlaneRegion

HEADINGS = (0, 90, 180, 270)
WEST, SOUTH, EAST, NORTH = 14.0, 44.0, 18.0, 46.0

# A box around Croatia.
LAND = PlaneRegion("box", shapely.MultiPolygon([shapely.box(WEST, SOUTH, EAST, NORTH)]), "EPSG:3765")


def make_view(uuid: str, heading: int, px: int) -> np.ndarray:
    """Returns (px, px, 3) RGB: a colour by place and heading, brighter to the right."""
    colour = np.frombuffer(hashlib.sha256(f"{uuid}/{heading}".encode()).digest()[:3], np.uint8)
    ramp = np.linspace(0.5, 1.0, px)[None, :, None]
    return np.ascontiguousarray(np.broadcast_to(colour * ramp, (px, px, 3)).round().astype(np.uint8))


def write_views(folder: Path, uuid: str, px: int = 24) -> None:
    """Writes the four views of a place."""
    folder.mkdir(parents=True, exist_ok=True)
    for heading in HEADINGS:
        data = simplejpeg.encode_jpeg(make_view(uuid, heading, px), quality=95, colorsubsampling="444")
        (folder / f"{heading}.jpg").write_bytes(data)


def write_csv(file: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = ()) -> None:
    """Writes a table of places; the default header is uuid, latitude, longitude."""
    file.parent.mkdir(parents=True, exist_ok=True)
    with file.open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream).writerows([header or ("uuid", "latitude", "longitude"), *rows])


def make_coords(count: int, seed: int = 0) -> np.ndarray:
    """Returns (count, 2) latitude and longitude inside the box, with six decimals."""
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
    """Writes a root with data.csv and images/<uuid>, at the positions of `make_coords`."""
    columns = columns or {}
    coords = make_coords(len(ids), seed).tolist()
    rows = [[name, *coords[row], *(values[row] for values in columns.values())] for row, name in enumerate(ids)]
    write_csv(root / "data.csv", rows, ("uuid", "latitude", "longitude", *columns))
    for name in ids:
        write_views(root / "images" / name, name, px)
    return root


def make_places_data(roots: Path | list[Path], **options: Any) -> PlacesDataModule:
    """Makes the datamodule of roots in `LAND`; `options` override its defaults."""
    paths = [str(root) for root in (roots if isinstance(roots, list) else [roots])]
    defaults = {"region": LAND, "split": RandomSplit(shares=[0.6, 0.2, 0.2]), "augment": Augment()}
    return PlacesDataModule(roots=paths, **{**defaults, **options})
