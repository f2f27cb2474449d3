"""Well-known binary (WKB) of geometries from files."""

from __future__ import annotations

import struct
from typing import Any

import shapely

# GEOS reads nested collections by recursion, which ends the process after about 10,000 levels.
MAX_DEPTH = 8
POINT, LINE, POLYGON, COLLECTIONS = 1, 2, 3, (4, 5, 6, 7)
# Flags of the extended form, beside which ISO adds 1000 (Z), 2000 (M) or 3000 (ZM) to the type.
HAS_Z, HAS_M, HAS_SRID = 0x80000000, 0x40000000, 0x20000000


def load_wkb(data: bytes) -> Any:
    """Returns the geometry of WKB; raises ValueError if it is damaged, nested too deeply, or has curves."""
    try:
        _skip_geometry(data, 0, 0)
    except (struct.error, IndexError) as error:
        raise ValueError("holds a damaged geometry") from error
    try:
        return shapely.from_wkb(data)
    except shapely.GEOSException as error:
        raise ValueError(f"holds a damaged geometry ({error})") from error


def _skip_geometry(data: bytes, position: int, depth: int) -> int:
    """Returns the position after the geometry that starts at `position`."""
    if depth > MAX_DEPTH:
        raise ValueError(f"holds a geometry of more than {MAX_DEPTH} levels")
    order = "<" if data[position] else ">"

    def read(place: int) -> int:
        return int(struct.unpack_from(f"{order}I", data, place)[0])

    code = read(position + 1)
    iso_dimension, kind = divmod(code & 0xFFFF, 1000)
    numbers = 2 + max(bool(code & HAS_Z) + bool(code & HAS_M), (0, 1, 1, 2, 0)[min(iso_dimension, 4)])
    position += 9 if code & HAS_SRID else 5
    if kind == POINT:
        return position + 8 * numbers

    count, position = read(position), position + 4
    if kind == LINE:
        return position + 8 * numbers * count
    if kind == POLYGON:
        for _ in range(count):
            position += 4 + 8 * numbers * read(position)
    elif kind in COLLECTIONS:
        for _ in range(count):
            position = _skip_geometry(data, position, depth + 1)
    else:
        raise ValueError(
            f"holds a geometry of type {kind}, which must be a point, line, polygon or several of them"
        )
    return position
