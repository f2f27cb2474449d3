"""Assignment of a million places to cells on one core, compared with the spatial join of geopandas.

python benchmarks/assign_places.py
"""

from __future__ import annotations

import geopandas
import numpy as np
import shapely
import torch
from measure import compute_median_ratio, format_median_ms, print_report, time_interleaved

from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country

PLACES = 1_000_000


def main() -> None:
    torch.set_num_threads(1)
    region = country("HRV", "EPSG:3765")
    rng = np.random.default_rng(0)
    west, south, east, north = region.land_m.bounds

    # About a quarter of the box is land. Points are repeated if that gives fewer than PLACES.
    drawn = rng.uniform((west, south), (east, north), (4 * PLACES, 2))
    on_land = drawn[shapely.contains_xy(region.land_m, drawn[:, 0], drawn[:, 1])]
    points = np.concatenate([on_land] * (PLACES // len(on_land) + 1))[:PLACES]

    grid = SquareGrid(size=60).fit(region, region.to_degrees(on_land[:5000]))
    outlines = grid.cells.outlines(grid.kept)
    cells = geopandas.GeoDataFrame(geometry=shapely.polygons(outlines), crs=region.crs)

    def join() -> None:
        places = geopandas.GeoDataFrame(
            geometry=geopandas.points_from_xy(points[:, 0], points[:, 1]), crs=region.crs
        )
        geopandas.sjoin(places, cells, how="left", predicate="within")

    seconds = time_interleaved(
        {"geoguesser": lambda: grid.assign_points(points), "spatial join": join}, rounds=5, warmup=1
    )
    rows = {name: format_median_ms(times) for name, times in seconds.items()}
    rows["cells with training places"] = f"{grid.num_cells} of {len(grid.touching)} on land"
    ratio = compute_median_ratio(seconds["spatial join"], seconds["geoguesser"])
    print_report(f"{PLACES:,} places to {grid.num_cells} cells", rows, {"spatial_join_over_geoguesser": ratio})


if __name__ == "__main__":
    main()
