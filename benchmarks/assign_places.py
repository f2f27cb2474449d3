"""A million places to cells: ours against geopandas' spatial join, on one core.

python benchmarks/assign_places.py
"""

from __future__ import annotations

import geopandas
import numpy as np
import shapely
import torch
from measure import interleaved, median_ratio, milliseconds, report

from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country

PLACES = 1_000_000


def main() -> None:
    torch.set_num_threads(1)
    region = country("HRV", "EPSG:3765")
    rng = np.random.default_rng(0)
    west, south, east, north = region.land_m.bounds
    drawn = rng.uniform((west, south), (east, north), (4 * PLACES, 2))
    on_land = drawn[shapely.contains_xy(region.land_m, drawn[:, 0], drawn[:, 1])]
    points = np.concatenate([on_land] * (PLACES // len(on_land) + 1))[:PLACES]
    grid = SquareGrid(size=60).fit(region, region.to_degrees(on_land[:5000]))
    outlines = grid.cells.outlines(grid.kept)
    table = geopandas.GeoDataFrame(geometry=shapely.polygons(outlines), crs=region.crs)

    def join() -> None:
        places = geopandas.GeoDataFrame(
            geometry=geopandas.points_from_xy(points[:, 0], points[:, 1]), crs=region.crs
        )
        geopandas.sjoin(places, table, how="left", predicate="within")

    seconds = interleaved({"ours": lambda: grid.assign_points(points), "spatial join": join}, rounds=5, warmup=1)
    rows = {name: milliseconds(times) for name, times in seconds.items()}
    rows["kept of touching cells"] = f"{grid.num_cells} of {len(grid.touching)}"
    ratio = median_ratio(seconds["spatial join"], seconds["ours"])
    report(f"{PLACES:,} places to {grid.num_cells} cells", rows, {"spatial_join_over_ours": ratio})


if __name__ == "__main__":
    main()
