"""Cutting of views compared with plain NumPy, and planning of points compared with one random point at a time.

python benchmarks/panorama.py

The panorama is synthetic. Both ways of cutting average the same number of bilinear samples per pixel, and both
ways of planning keep the same spacing on the same land.
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
from measure import compute_median_ratio, print_report, time_interleaved
from scipy.spatial.transform import Rotation

from geoguesser.collecting.panorama import cut_views
from geoguesser.collecting.planning.strategies import FillGaps, PerCell, Strategy, Uniform
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import PlaneRegion, country

HEADINGS = (0, 90, 180, 270)
WIDTH, SIZE, SAMPLES, COMPASS_DEG = 4096, 640, 3, 33.0
POINTS, SPACING_M = 2000, 1000.0

Image = npt.NDArray[np.uint8]


def make_panorama(width: int) -> Image:
    """Makes smooth noise without a seam."""
    small = np.random.default_rng(0).integers(0, 256, (32, 64, 3), dtype=np.uint8)
    wrapped = np.concatenate((small, small[:, :4]), axis=1)
    large = cv2.resize(wrapped, (width * 68 // 64, width // 2), interpolation=cv2.INTER_CUBIC)
    return np.ascontiguousarray(large[:, width // 32 : width // 32 + width])


def cut_plain_views(panorama: Image) -> Image:
    """Cuts views by rotating the ray of each sample and interpolating at its longitude and latitude."""
    height, width = panorama.shape[:2]
    padded = np.pad(panorama, ((1, 1), (0, 0), (0, 0)), mode="edge")
    steps = (np.arange(SIZE * SAMPLES) + 0.5) / (SIZE * SAMPLES) * 2.0 - 1.0
    across, down = np.meshgrid(steps, steps)
    rays = np.stack((across, np.ones_like(across), -down), axis=-1).reshape(-1, 3)
    views = []

    for heading in HEADINGS:
        rotated = rays @ Rotation.from_euler("z", COMPASS_DEG - heading, degrees=True).as_matrix().T
        longitude = np.arctan2(rotated[:, 0], rotated[:, 1])
        latitude = np.arctan2(rotated[:, 2], np.hypot(rotated[:, 0], rotated[:, 1]))

        # The padding adds a row above the first.
        x = (longitude / (2 * np.pi) + 0.5) * width - 0.5
        y = (0.5 - latitude / np.pi) * height + 0.5
        column, row = np.floor(x).astype(np.int64), np.floor(y).astype(np.int64)
        right_weight, lower_weight = (x - column)[:, None], (y - row)[:, None]
        left, right = column % width, (column + 1) % width
        upper = padded[row, left] * (1 - right_weight) + padded[row, right] * right_weight
        lower = padded[row + 1, left] * (1 - right_weight) + padded[row + 1, right] * right_weight
        samples = (upper * (1 - lower_weight) + lower * lower_weight).reshape(SIZE, SAMPLES, SIZE, SAMPLES, 3)
        views.append(np.rint(samples.mean(axis=(1, 3))).astype(np.uint8))
    return np.stack(views)


def sample_points_one_by_one(region: PlaneRegion) -> npt.NDArray[np.float64]:
    """Draws random points and keeps those on land that are far enough from all points before them."""
    random = np.random.default_rng(0)
    west, south, east, north = region.land_m.bounds
    points = np.zeros((0, 2))

    while len(points) < POINTS:
        candidate = random.uniform((west, south), (east, north))
        if not shapely.contains_xy(region.land_m, *candidate):
            continue
        coords = region.to_degrees(candidate[None])
        if not len(points) or haversine_km(points, coords).min() * 1000.0 >= SPACING_M:
            points = np.concatenate((points, coords))
    return points


def time_strategy(strategy: Strategy, region: PlaneRegion, places: int) -> float:
    """Returns the seconds that a plan takes."""
    start = time.perf_counter()
    points = strategy.sample(region, places=places, seed=0)
    assert len(points) == places
    return time.perf_counter() - start


def main() -> None:
    torch.set_num_threads(1)
    panorama = make_panorama(WIDTH)
    difference = np.abs(
        cut_views(panorama, compass_deg=COMPASS_DEG, size=SIZE).astype(int) - cut_plain_views(panorama).astype(int)
    )
    cutting = time_interleaved(
        {
            "ours": lambda: cut_views(panorama, compass_deg=COMPASS_DEG, size=SIZE),
            "plain": lambda: cut_plain_views(panorama),
        },
        rounds=3,
        warmup=1,
    )

    region = country("HRV", "EPSG:3765")
    planning = time_interleaved(
        {
            "ours": lambda: Uniform(spacing_m=SPACING_M).sample(region, places=POINTS, seed=0),
            "plain": lambda: sample_points_one_by_one(region),
        },
        rounds=3,
        warmup=1,
    )

    rows = {
        f"views of {SIZE} px from {WIDTH} columns": f"{4 / statistics.median(cutting['ours']):.1f} a second",
        "the same, plain NumPy": f"{4 / statistics.median(cutting['plain']):.2f} a second",
        "greatest difference": f"{difference.max()} of 255 levels, on average {difference.mean():.3f}",
        f"plan of {POINTS:,} points {SPACING_M:g} m apart": f"{statistics.median(planning['ours']):.2f} s",
        "the same, one by one": f"{statistics.median(planning['plain']):.2f} s",
    }
    with tempfile.TemporaryDirectory() as folder:
        existing = Path(folder) / "data.csv"
        existing.write_text("uuid,latitude,longitude\na,45.8,16.0\n")
        strategies = (Uniform(), PerCell(), FillGaps(existing=str(existing)))
        for strategy in strategies:
            for places in (10_000, 100_000):
                rows[f"{places:,} points, strategy={strategy.name}"] = (
                    f"{time_strategy(strategy, region, places):.1f} s"
                )

    ratios = {
        "plain_cutting_over_ours": compute_median_ratio(cutting["plain"], cutting["ours"]),
        "plain_planning_over_ours": compute_median_ratio(planning["plain"], planning["ours"]),
        "greatest_difference_levels": float(difference.max()),
    }
    print_report("Cutting and planning", rows, ratios)


if __name__ == "__main__":
    main()
