"""Pictures that explain a run: their values against another computation, the files by their pixels."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from support.pictures import check_picture, check_same_twice, count_colour, make_picture, measure_ink
from support.region_places import sample_land
from support.toy_run import draw_places, fit_head

from geoguesser.geo.distance import haversine_km, to_unit
from geoguesser.geo.grid import Grid, SquareGrid
from geoguesser.geo.region import Region
from geoguesser.model.attribution import EXACT_METHOD, GRADIENT_METHOD, LeaveOneOut
from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.decoder import MedianDecoder
from geoguesser.model.fusion import AttentionFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.model.network import GeoNetwork
from geoguesser.model.uncertainty import Calibration, HeadOutput
from geoguesser.reporting.explanation import coverage_plot, maps, network_plot, place_plots
from geoguesser.reporting.explanation.headings_plot import compute_heading_effects, draw_headings
from geoguesser.reporting.explanation.map_data import find_top_cells, order_evenly
from geoguesser.reporting.explanation.place_plots import PlaceImages
from geoguesser.reporting.explanation.subject import divide_in_thirds

RANDOM = np.random.default_rng(0)


def draw(folder: Path, function: Callable[..., Any], least: float = 0.01, **options: Any) -> np.ndarray:
    """Draws a picture, checks that it is not empty, and returns its pixels."""
    function(folder / "a.png", **options)
    pixels = check_picture(folder / "a.png", 1000, (200, 3000))
    assert measure_ink(pixels) > least
    return pixels


@pytest.fixture(params=["croatia", pytest.param("earth", marks=pytest.mark.slow)], scope="module")
def region(request: pytest.FixtureRequest) -> Region:
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def grid(region: Region) -> Grid:
    return SquareGrid(size=60).fit(region, sample_land(region, 400))


def make_place(region: Region, seed: int = 0, views: bool = True) -> PlaceImages:
    true_deg, predicted_deg = sample_land(region, 2, seed)
    shown = [np.asarray(make_picture(number, 80, 80)) for number in range(4)] if views else None
    error_km = float(haversine_km(true_deg, predicted_deg))
    return PlaceImages(f"place-{seed}", true_deg, predicted_deg, error_km, shown)


def make_posterior(grid: Grid) -> np.ndarray:
    values = np.random.default_rng(1).gamma(0.3, size=grid.num_cells)
    return values / values.sum()


def test_posterior_with_and_without_cells_and_views(region, grid, tmp_path):
    draw_posterior = partial(draw, tmp_path, place_plots.draw_posterior, region=region)
    whole = draw_posterior(grid=grid, posterior=make_posterior(grid), place=make_place(region))
    bare = draw_posterior(grid=None, posterior=None, place=make_place(region, views=False))

    # The most probable cell's colour.
    dark = count_colour(whole, (128, 0, 38), 12)
    assert dark > 0.0005 * whole[..., 0].size
    assert count_colour(bare, (128, 0, 38), 12) < dark / 4


def test_fields_are_means_over_squares(region):
    true_deg, error_km = sample_land(region, 300), RANDOM.gamma(2.0, 20.0, 300)
    fields = maps.compute_fields(region, true_deg, error_km)
    assert fields.places.sum() + fields.outside == 300
    assert 9 <= len(fields.ids) <= 80
    square = fields.cells.locate(region.to_space(true_deg))
    for number, places, mean in zip(fields.ids, fields.places, fields.error_km, strict=True):
        assert places == (square == number).sum()
        assert mean == pytest.approx(error_km[square == number].mean())
    assert float(fields.places @ fields.error_km) == pytest.approx(error_km[square >= 0].sum())


@pytest.mark.parametrize("count", [1, 300])
def test_fields_are_drawn(region, count: int, tmp_path):
    fields = maps.compute_fields(region, sample_land(region, count), RANDOM.gamma(2.0, 20.0, count))
    check_same_twice(tmp_path, maps.draw_fields, width=1000, region=region, fields=fields)


def test_confusion_counts_pairs(region, grid, tmp_path):
    true_cell = RANDOM.integers(0, grid.num_cells, 400)
    answered = np.where(RANDOM.random(400) < 0.5, true_cell, RANDOM.integers(0, 6, 400))
    confusion = maps.compute_confusion(grid, true_cell, answered)
    pairs = zip(true_cell.tolist(), answered.tolist(), strict=True)
    expected = Counter(pair for pair in pairs if pair[0] != pair[1])
    counts = confusion.counts.tolist()
    assert dict(zip(map(tuple, confusion.pairs.tolist()), counts, strict=True)) == expected
    assert counts == sorted(expected.values(), reverse=True)
    assert (confusion.wrong, confusion.places) == (sum(expected.values()), 400)

    touch = grid.neighbours.toarray()
    assert confusion.near.tolist() == [bool(touch[a, b]) for a, b in confusion.pairs]
    apart = maps.compute_confusion(grid, true_cell, answered, neighbours=False)
    assert not apart.near.any()
    assert len(apart.pairs) == (~confusion.near).sum()
    right = maps.compute_confusion(grid, true_cell, true_cell)
    assert (len(right.pairs), right.wrong) == (0, 0)

    # Arcs of cells apart.
    pixels = draw(tmp_path, maps.draw_confusion, region=region, grid=grid, confusion=confusion)
    assert count_colour(pixels, (213, 94, 0)) > 300


def test_no_cell_of_a_confusion_is_cut_off(croatia, tmp_path):
    grid = SquareGrid(size=40).fit(croatia, sample_land(croatia, 200))
    confusion = maps.compute_confusion(grid, np.array([0, 1]), np.array([1, 0]))
    pixels = draw(tmp_path, maps.draw_confusion, region=croatia, grid=grid, confusion=confusion)
    lines = np.abs(pixels - (191, 203, 212)).max(axis=2) < 40
    top = lines[np.flatnonzero(lines.any(axis=1))[0]]
    # The upper side of the northernmost cells is drawn.
    assert top.sum() > 100


def test_extremes_are_drawn(region, tmp_path):
    best, worst = [make_place(region, 1), make_place(region, 2, views=False)], [make_place(region, 3)]
    groups = [("Best", best), ("Worst", worst)]
    draw(tmp_path, place_plots.draw_extremes, region=region, groups=groups, least=0.3)


def test_an_absent_view_leaves_its_frame_empty(region, tmp_path):
    place = make_place(region)
    lacks = replace(place, views=[place.views[0], None, *place.views[2:]])
    whole, some = (
        draw(tmp_path, place_plots.draw_quadruplet, region=region, place=shown, least=0.3)
        for shown in (place, lacks)
    )
    # The view to the east.
    assert measure_ink(whole[400:600, 700:980]) > 0.95
    assert measure_ink(some[400:600, 700:980]) < 0.1


@pytest.mark.parametrize("method", [EXACT_METHOD, GRADIENT_METHOD])
def test_an_overlay_hides_most_where_the_map_is_strongest(method: str):
    activation = np.zeros((4, 3, 3))
    activation[2, 1, 1] = 2.0
    activation[0, 0, 0] = -1.0 if method == EXACT_METHOD else 0.5
    colours = place_plots.overlay_activation(activation, method, 90)
    assert colours.shape == (4, 90, 90, 4)
    assert colours[..., 3].max() == pytest.approx(place_plots.MAX_OPACITY, abs=0.02)
    at = np.unravel_index(colours[..., 3].argmax(), colours.shape[:3])
    assert at[0] == 2
    assert 30 <= at[1] < 60
    assert 30 <= at[2] < 60
    assert not colours[1, ..., 3].any()
    red, blue = colours[2, 45, 45], colours[0, 5, 5]
    assert red[0] > red[2]
    assert (blue[2] > blue[0]) == (method == EXACT_METHOD)
    assert not place_plots.overlay_activation(np.zeros((4, 2, 2)), method, 8)[..., 3].any()


@pytest.mark.parametrize("method", [EXACT_METHOD, GRADIENT_METHOD])
def test_an_activation_is_drawn(method: str, croatia, tmp_path):
    pixels = draw(
        tmp_path,
        place_plots.draw_activation,
        place=make_place(croatia),
        maps=np.abs(RANDOM.normal(size=(4, 4, 4))),
        method=method,
        bars="what is added",
        share=np.array([0.5, -0.2, np.nan, 1.0]),
        moved_km=np.array([1.0, 20.0, np.nan, 300.0]),
        least=0.3,
    )
    # Bars for and against.
    assert count_colour(pixels, (213, 94, 0)) > 500
    assert count_colour(pixels, (0, 114, 178)) > 200


@pytest.mark.parametrize("head", [ClassificationHead, RegressionHead])
def test_a_networks_drawing_has_its_shapes_and_parameters(head: Any, tmp_path):
    backbone = TimmBackbone(name="test_resnet", pretrained=False)
    fusion = AttentionFusion(backbone.feature_size, width=32)
    options = {"decoder": MedianDecoder()} if head is ClassificationHead else {}
    fitted = fit_head(fusion.output_size, draw_places(50), head, **options)
    network = GeoNetwork(backbone, fusion, fitted)
    parts = network_plot.list_parts(network, 48)
    mask = torch.ones(1, 4, dtype=torch.bool)
    features = network.embed(torch.zeros(1, 4, 3, 48, 48, dtype=torch.uint8), mask)
    fused = network.fusion(features, mask)
    assert [part.shape for part in parts] == [
        "4 × 3 × 48 × 48",
        f"4 × {features.shape[2]:,}",
        f"{fused.shape[1]:,}",
        f"{network.head(fused).shape[1]:,}",
        "latitude, longitude",
    ]
    counts = [int(part.detail.split(" ")[0].replace(",", "")) for part in parts[1:4]]
    assert sum(counts) == sum(parameter.numel() for parameter in network.parameters())
    assert parts[0].detail == "north, east, south, west"
    assert parts[4].detail.startswith("median of" if head is ClassificationHead else "a point")
    draw(tmp_path, network_plot.draw_network, parts=parts, least=0.2)


@pytest.mark.parametrize("count", [3, pytest.param(96, marks=pytest.mark.slow)])
def test_filters_are_colours_about_grey(count: int, tmp_path):
    weights = RANDOM.normal(size=(count, 3, 5, 5))
    weights[0] = 0.0
    shown = network_plot.make_filter_pictures(weights)
    assert (shown.min() >= 0.0, shown.max() <= 1.0) == (True, True)
    assert (shown[0] == 0.5).all()
    assert np.abs(shown - 0.5).max() == pytest.approx(0.5)
    np.testing.assert_allclose(shown[1, 2, 3], 0.5 + 0.5 * weights[1, :, 2, 3] / np.abs(weights).max())
    draw(tmp_path, network_plot.draw_filters, weights=weights, least=0.2)


def make_calibrated_places(count: int, seed: int, cells: int = 20) -> coverage_plot.LabelledOutput:
    """Returns places whose true cells are drawn from the posterior, which is therefore calibrated."""
    random = np.random.default_rng(seed)
    logits = 1.5 * random.normal(size=(count, cells))
    posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    cell = np.array([random.choice(cells, p=row) for row in posterior])
    vectors = to_unit(np.random.default_rng(9).uniform((44, 15), (46, 18), (cells, 2)))
    said = HeadOutput(np.tile((45.0, 16.5), (count, 1)), logits, vectors, np.full(cells, 40.0))
    return coverage_plot.LabelledOutput(said, cell, random.gamma(2.0, 30.0, count))


def test_coverage_at_the_levels_of_the_run_is_that_of_its_calibration():
    held_out, test = make_calibrated_places(200, 0), make_calibrated_places(500, 1)
    calibration = Calibration.fit(held_out.output, held_out.true_cell, held_out.error_km)
    known = calibration.describe_places(test.output, test.true_cell)
    covered = coverage_plot.count_covered_places(test, held_out, calibration.temperature)
    for level, at in (("50", 9), ("90", 17), ("95", 18)):
        assert coverage_plot.NOMINAL_LEVELS[at] == pytest.approx(int(level) / 100)
        assert covered[coverage_plot.SETS][at] == known[f"set_{level}_holds"].sum()
        assert covered[coverage_plot.RADII][at] == (test.error_km <= known[f"radius_{level}_km"]).sum()


def test_a_calibrated_posterior_covers_the_nominal_level():
    test = make_calibrated_places(4000, 2)
    share = coverage_plot.count_covered_places(test, None, 1.0)[coverage_plot.MASS] / 4000
    top = float((test.output.logits.argmax(axis=1) == test.true_cell).mean())
    # Complete cells cover at least the nominal level.
    assert (share >= coverage_plot.NOMINAL_LEVELS - 0.03).all()
    assert share.min() >= top - 1e-9
    assert (np.diff(share) >= 0).all()


def test_coverage_of_a_head_without_cells_is_only_of_radii(tmp_path):
    random = np.random.default_rng(0)
    held_out, test = (
        coverage_plot.LabelledOutput(HeadOutput(np.zeros((n, 2))), None, random.gamma(2.0, 10.0, n))
        for n in (15, 300)
    )
    covered = coverage_plot.count_covered_places(test, held_out, None)
    assert list(covered) == [coverage_plot.RADII]
    # 95 % needs 19 calibration places.
    assert np.isnan(covered[coverage_plot.RADII][-1])
    # The 8th of 15 for 50 %.
    expected = (test.error_km <= np.sort(held_out.error_km)[7]).sum()
    assert covered[coverage_plot.RADII][9] == expected
    assert coverage_plot.count_covered_places(test, None, None) == {}
    draw(tmp_path, coverage_plot.draw_coverage, covered=covered, places=300)


def test_headings_are_means_over_places(tmp_path):
    true_deg, error_km = draw_places(50), RANDOM.gamma(2.0, 20.0, 50)
    coords = torch.from_numpy(true_deg[:, None] + RANDOM.normal(0, 0.2, (50, 4, 2)))
    moved = torch.from_numpy(RANDOM.gamma(2.0, 5.0, (50, 4)))
    # No place has a view to the west.
    moved[:, 3], coords[:, 3] = np.nan, np.nan
    moved[7, 0] = np.nan
    effects = compute_heading_effects(LeaveOneOut(moved, coords, None), true_deg, error_km)
    assert effects["shift_km"][0, 1] == pytest.approx(float(moved[:, 1].mean()))
    assert effects["shift_km"][0, 0] == pytest.approx(np.nanmean(moved[:, 0].numpy()))
    errors = [haversine_km(coords[row, 2].numpy(), true_deg[row]) - error_km[row] for row in range(50)]
    assert effects["error_increase_km"][0, 2] == pytest.approx(np.mean(errors))
    assert effects["error_increase_km"][1, 2] == pytest.approx(1.96 * np.std(errors, ddof=1) / np.sqrt(50))
    assert np.isnan(effects["shift_km"][:, 3]).all()
    few = compute_heading_effects(LeaveOneOut(moved[10:49], coords[10:49], None), true_deg[10:49], error_km[10:49])
    assert np.isfinite(few["shift_km"][0, :3]).all()
    # 39 places hold no interval of a mean.
    assert np.isnan(few["shift_km"][1]).all()
    draw(tmp_path, draw_headings, effects=few)
    draw(tmp_path, draw_headings, effects=effects)


@given(count=st.integers(1, 200), max_rows=st.integers(0, 30))
def test_examples_are_of_both_ends_and_the_middle(count: int, max_rows: int):
    rows = divide_in_thirds(count, max_rows)
    assert len(rows) == min(count, max_rows)
    assert rows == sorted(set(rows))
    assert all(0 <= row < count for row in rows)
    if max_rows >= 3 and count >= max_rows:
        assert (rows[0], rows[-1]) == (0, count - 1)


@given(count=st.integers(1, 300))
def test_every_prefix_of_the_order_is_spread_evenly(count: int):
    rows = np.arange(count) * 3
    ordered = order_evenly(rows)
    assert sorted(ordered.tolist()) == rows.tolist()
    half = np.sort(ordered[: max(1, count // 2)]) // 3
    assert np.diff(np.concatenate(([-1], half, [count]))).max() <= max(5, count // 4 + 3)


def test_the_most_probable_cells_come_first():
    posterior = np.full(200, 0.001)
    posterior[[7, 3]] = 0.5, 0.301
    posterior /= posterior.sum()
    assert find_top_cells(posterior) == [[7, 0.5005], [3, 0.3013]]
