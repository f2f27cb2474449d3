"""Pictures of a dataset: computations against known values, pictures by their colours and bytes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from support.pictures import check_same_twice, count_colour, draw_picture

from geoguesser.data.checks.duplicates import Match
from geoguesser.data.checks.image_stats import ImageStats
from geoguesser.data.checks.inspection import inspect_place
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import PlaceFiles
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import PlaneRegion
from geoguesser.reporting.dataset import plots, samples
from geoguesser.reporting.maps import SPLIT_COLOURS
from geoguesser.reporting.projections import make_projection

ZAGREB = (45.81, 15.98)


def sample_zagreb(count: int, spread_deg: float = 0.02) -> np.ndarray:
    return np.random.default_rng(0).normal(ZAGREB, spread_deg, (count, 2))


def count_split(pixels: np.ndarray, split: str) -> int:
    """Returns the number of pixels in the colour of a split."""
    red, green, blue = np.round(255 * np.array(to_rgb(SPLIT_COLOURS[split])))
    return count_colour(pixels, (red, green, blue), 3)


def test_map_shows_each_split_that_is_there(tmp_path: Path, croatia: PlaneRegion) -> None:
    coords = np.array([[45.8, 16.0], [45.5, 18.0], [44.0, 15.5], [43.5, 16.5]])
    splits = np.array(["train", "val", "unused", "train"])
    places = {"region": croatia, "coords_deg": coords, "splits": splits}
    pixels = check_same_twice(tmp_path, plots.draw_places, width=1000, **places)
    counts = {split: count_split(pixels, split) for split in SPLIT_COLOURS}
    assert counts["test"] == 0
    assert min(counts["train"], counts["val"], counts["unused"]) > 30
    assert counts["train"] > 1.5 * counts["val"]


@pytest.mark.slow
def test_dense_places_do_not_hide_each_other(tmp_path: Path, croatia: PlaneRegion) -> None:
    coords = np.random.default_rng(0).uniform((45.3, 16.0), (45.7, 18.0), (20_000, 2))
    splits = np.array(["train", "val", "test", "unused"])[np.arange(20_000) % 4]
    places = {"region": croatia, "coords_deg": coords, "splits": splits}
    pixels = draw_picture(tmp_path, plots.draw_places, width=1000, **places)
    train, val, test = (count_split(pixels, split) for split in ("train", "val", "test"))
    assert max(train, val, test) < 1.2 * min(train, val, test)
    assert count_split(pixels, "unused") < 0.5 * train


def test_few_places_need_no_second_map(croatia: PlaneRegion) -> None:
    assert plots.find_densest_window(croatia, sample_zagreb(40)) is None


@pytest.mark.parametrize("count", [70, 3000, 30_000])
def test_window_lies_where_places_are_densest(croatia: PlaneRegion, count: int) -> None:
    elsewhere = np.random.default_rng(1).uniform((45.2, 17.0), (45.6, 18.5), (60, 2))
    window = plots.find_densest_window(croatia, np.concatenate((elsewhere, sample_zagreb(count))))
    assert window is not None
    west, south, east, north = window
    centre_deg = croatia.to_degrees(np.array([[(west + east) / 2, (south + north) / 2]]))[0]
    assert haversine_km(centre_deg, np.array(ZAGREB)) < 3.0
    assert east - west == pytest.approx(north - south)
    inside = plots.select_window(make_projection(croatia).project(sample_zagreb(count)), window).sum()
    assert plots.MIN_IN_WINDOW <= inside <= plots.MAX_IN_WINDOW


def test_many_places_at_one_point_end_the_search(tmp_path: Path, croatia: PlaneRegion) -> None:
    coords = np.tile(ZAGREB, (1000, 1))
    splits = np.array(["train"] * 999 + ["test"])
    window = plots.find_densest_window(croatia, coords)
    assert window is not None
    places = {"region": croatia, "coords_deg": coords, "splits": splits, "window": window}
    pixels = draw_picture(tmp_path, plots.draw_window, width=1000, **places)
    assert count_split(pixels, "train") + count_split(pixels, "test") > 0


def test_window_shows_only_what_lies_in_it(tmp_path: Path, croatia: PlaneRegion) -> None:
    coords = np.concatenate((sample_zagreb(200), [[43.5, 16.5]]))
    splits = np.array(["train"] * 200 + ["test"])
    window = plots.find_densest_window(croatia, coords)
    assert window is not None
    places = {"region": croatia, "coords_deg": coords, "splits": splits, "window": window}
    pixels = check_same_twice(tmp_path, plots.draw_window, width=1000, **places)
    assert count_split(pixels, "test") == 0
    assert count_split(pixels, "train") > 200


@pytest.mark.parametrize(
    ("distance_km", "splits"),
    [
        ([0.0, 0.3, 7.0, 2.0], ["val", "test", "test", "train"]),
        ([0.0, 0.0, 1.0, np.inf], ["test", "test", "train", "val"]),
        ([900.0, 4000.0, 20_000.0, 1.0], ["val", "test", "test", "train"]),
    ],
)
def test_distances_are_drawn_for_the_splits_that_have_some(
    tmp_path: Path, distance_km: list[float], splits: list[str]
) -> None:
    distance, split = np.array(distance_km), np.array(splits)
    pixels = check_same_twice(tmp_path, plots.draw_distances, width=1000, distance_km=distance, splits=split)
    shown = {split for split, km in zip(splits, distance_km, strict=True) if np.isfinite(km)} & {"val", "test"}
    assert {name for name in ("val", "test") if count_split(pixels, name) > 100} == shown
    assert count_split(pixels, "train") == 0


def test_brightness_is_the_luma_of_known_colours(tmp_path: Path) -> None:
    colours = [(0, 0, 0), (255, 255, 255), (10, 200, 30), (100, 100, 100)]
    for heading, colour in zip((0, 90, 180, 270), colours, strict=True):
        Image.new("RGB", (64, 64), colour).save(tmp_path / f"{heading}.png")
    names = ("0.png", "90.png", "180.png", "270.png")
    facts = ImageStats.empty(1)
    facts.put(0, inspect_place(PlaceFiles(str(tmp_path), names), [ImageSpec(size=32)]))
    luma = plots.compute_brightness(facts.sums, 32)
    expected = [0.299 * red + 0.587 * green + 0.114 * blue for red, green, blue in colours]
    np.testing.assert_allclose(luma, [expected], atol=1e-4)


@pytest.mark.parametrize("count", [3, 1000])
def test_brightness_is_drawn(tmp_path: Path, count: int) -> None:
    random = np.random.default_rng(0)
    luma, mask = random.uniform(0, 255, (count, 4)), random.random((count, 4)) < 0.7
    mask[0] = True
    splits = np.array(["train", "val", "test"])[np.arange(count) % 3]
    pixels = check_same_twice(tmp_path, plots.draw_brightness, width=1000, luma=luma, mask=mask, splits=splits)
    assert count_split(pixels, "test") > 100


@pytest.mark.parametrize("sizes", [[5000], [5000] * 400, [1, 10**8]])
def test_file_sizes_of_one_or_any_range_are_drawn(tmp_path: Path, sizes: list[int]) -> None:
    check_same_twice(tmp_path, plots.draw_file_sizes, width=1000, file_bytes=np.array(sizes))


def test_samples_are_two_of_each_split_and_one_that_lacks_a_view() -> None:
    splits = np.array(["train"] * 80 + ["val"] * 10 + ["test"] * 10 + ["unused"] * 5)
    mask = np.ones((105, 4), dtype=bool)
    picked = samples.pick_samples(splits, mask)
    assert sorted(splits[picked]) == ["test", "test", "train", "train", "val", "val"]
    assert len(set(picked)) == 6
    assert len(samples.pick_samples(splits[[0, 80, 90]], mask[:3])) == 3

    mask[103, 2] = False
    again = samples.pick_samples(splits, mask)
    assert again == [*picked[:5], 103]


def test_pairs_are_of_all_kinds_before_any_kind_comes_twice() -> None:
    kinds = ["identical_image"] * 50 + ["near_duplicate"] * 2 + ["same_coordinates"]
    matches = [Match(kind, row, 0, "is like") for row, kind in enumerate(kinds)]
    picked = samples.pick_pairs(matches)
    assert [match.row for match in picked] == [0, 1, 2, 50, 51, 52]
    assert samples.pick_pairs(matches[:3]) == matches[:3]
    assert samples.pick_pairs([]) == []
