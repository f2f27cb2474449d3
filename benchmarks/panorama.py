"""Views cut from a panorama against a plain NumPy way, and plans of points against one dart after another.

python benchmarks/panorama.py

The panorama is synthetic. Both ways of cutting take the mean of the same number of bilinear samples per pixel,
and both ways of planning keep the same spacing on the same land.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import shapely
import torch
from measure import interleaved, median_ratio, report
from scipy.spatial.transform import Rotation

from geoguesser.collecting.panorama import cut_views
from geoguesser.collecting.planning.strategies import FillGaps, PerCell, Strategy, Uniform
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import PlaneRegion, country

HEADINGS = (0, 90, 180, 270)
WIDTH, SIZE, SAMPLES, COMPASS_DEG = 4096, 640, 3, 33.0
POINTS, SPACING_M = 2000, 1000.0

Image = npt.NDArray[np.uint8]


def panorama_of(width: int) -> Image:
    """Smooth synthetic noise without a seam."""
    small = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    wrapped = np.concatenate((small, small[:, :4]), axis=1)
    large = cv2.resize(wrapped, (width * 68 // 64, width // 2), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(large[:, width // 32 : width // 32 + width])


def plain_views(panorama: Image) -> Image:
    """Each sample's ray, turned by a matrix, its longitude and latitude, and the mean of four pixels about it."""
    height, width = panorama.shape[:2]
    padded = np.pad(panorama, ((1, 1), (0, 0), (0, 0)), mode="edge")
    steps = (np.arange(SIZE * SAMPLES) + 0.5) / (SIZE * SAMPLES) * 2.0 - 1.0
    right, down = np.meshgrid(steps, steps)
    rays = np.stack((right, np.ones_like(right), -down), axis=-1).reshape(-1, 3)
    views = []
    for heading in HEADINGS:
        looks = rays @ Rotation.from_euler("z", COMPASS_DEG - heading, degrees=True).as_matrix().T
        longitude = np.arctan2(looks[:, 0], looks[:, 1])
        latitude = np.arctan2(looks[:, 2], np.hypot(looks[:, 0], looks[:, 1]))
        x = (longitude / (2 * np.pi) + 0.5) * width - 0.5
        y = (0.5 - latitude / np.pi) * height + 0.5  # a row was put before the first
        column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        across, up = (x - column)[:, None], (y - row)[:, None]
        left, rightmost = column % width, (column + 1) % width
        above = padded[row, left] * (1 - across) + padded[row, rightmost] * across
        below = padded[row + 1, left] * (1 - across) + padded[row + 1, rightmost] * across
        fine = (above * (1 - up) + below * up).reshape(SIZE, SAMPLES, SIZE, SAMPLES, 3)
        views.append(np.rint(fine.mean(axis=(1, 3))).astype(np.uint8))
    return np.stack(views)


def darts_one_by_one(region: PlaneRegion) -> npt.NDArray[np.float64]:
    """One dart, one test of land, its distance to all points before it; and again."""
    random = np.random.default_rng(0)
    west, south, east, north = region.land_m.bounds
    points = np.zeros((0, 2))
    while len(points) < POINTS:
        dart = random.uniform((west, south), (east, north))
        if not shapely.contains_xy(region.land_m, *dart):
            continue
        coords = region.to_degrees(dart[None])
        if not len(points) or haversine_km(points, coords).min() * 1000.0 >= SPACING_M:
            points = np.concatenate((points, coords))
    return points


def seconds_of(strategy: Strategy, region: PlaneRegion, places: int) -> float:
    start = time.perf_counter()
    made = strategy.sample(region, places=places, seed=0)
    assert len(made) == places
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    panorama = panorama_of(WIDTH)
    difference = np.abs(
        cut_views(panorama, compass_deg=COMPASS_DEG, size=SIZE).astype(int) - plain_views(panorama).astype(int)
    )
    cutting = interleaved(
        {
            "ours": lambda: cut_views(panorama, compass_deg=COMPASS_DEG, size=SIZE),
            "plain": lambda: plain_views(panorama),
        },
        rounds=3,
        warmup=1,
    )
    region = country("HRV", "EPSG:3765")
    planning = interleaved(
        {
            "ours": lambda: Uniform(spacing_m=SPACING_M).sample(region, places=POINTS, seed=0),
            "plain": lambda: darts_one_by_one(region),
        },
        rounds=3,
        warmup=1,
    )
    rows = {
        f"views of {SIZE} px from {WIDTH} columns": f"{4 / statistics.median(cutting['ours']):.1f} a second",
        "the same, plain NumPy": f"{4 / statistics.median(cutting['plain']):.2f} a second",
        "greatest difference": f"{difference.max()} of 255 levels, on average {difference.mean():.3f}",
        f"plan of {POINTS:,} points {SPACING_M:g} m apart": f"{statistics.median(planning['ours']):.2f} s",
        "the same, dart by dart": f"{statistics.median(planning['plain']):.2f} s",
    }
    with tempfile.TemporaryDirectory() as folder:
        existing = Path(folder) / "data.csv"
        existing.write_text("uuid,latitude,longitude\na,45.8,16.0\n")
        strategies = (Uniform(), PerCell(), FillGaps(existing=str(existing)))
        for strategy in strategies:
            for places in (10_000, 100_000):
                rows[f"{places:,} points, strategy={strategy.name}"] = (
                    f"{seconds_of(strategy, region, places):.1f} s"
                )
    ratios = {
        "plain_cutting_over_ours": median_ratio(cutting["plain"], cutting["ours"]),
        "plain_planning_over_ours": median_ratio(planning["plain"], planning["ours"]),
        "greatest_difference_levels": float(difference.max()),
    }
    report("Cutting and planning", rows, ratios)


if __name__ == "__main__":
    main()
