"""Map of a plan: points, places and layer are drawn."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from shapely.geometry import LineString, Point, box
from support.pictures import check_same_twice, count_colour, draw_picture

from geoguesser.collecting.planning.layers import Layer
from geoguesser.collecting.planning.strategies import Uniform
from geoguesser.reporting.plan_map import draw_plan

LAYER = Layer(np.array([LineString([(15, 45), (17, 45.5)]), box(16, 45, 16.4, 45.3), Point(17, 46)], dtype=object))


BLUE, ORANGE, PURPLE = (0, 114, 178), (230, 159, 0), (204, 121, 167)


def measure_share(pixels: np.ndarray, colour: tuple[int, int, int]) -> float:
    return count_colour(pixels, colour, 40) / pixels[..., 0].size


def test_points_places_and_layer_are_drawn(tmp_path: Path, croatia: Any) -> None:
    strategy = Uniform()
    points = strategy.sample(croatia, places=300, seed=0)
    existing = Uniform().sample(croatia, places=50, seed=1)
    more = {"existing_deg": existing, "layer": LAYER, "report": strategy.report()}
    full = draw_picture(tmp_path, draw_plan, region=croatia, planned_deg=points, **more)
    bare = check_same_twice(tmp_path, draw_plan, region=croatia, planned_deg=points)
    assert min(measure_share(full, BLUE), measure_share(bare, BLUE)) > 0.001
    for colour in (ORANGE, PURPLE):
        assert measure_share(full, colour) > measure_share(bare, colour) + 0.0002


@pytest.mark.parametrize("count", [0, 1])
def test_a_plan_without_or_with_one_point_is_drawn(tmp_path: Path, croatia: Any, count: int) -> None:
    points = np.full((count, 2), (45.5, 16.0))
    assert measure_share(draw_picture(tmp_path, draw_plan, region=croatia, planned_deg=points), BLUE) < 0.001


def test_a_long_line_is_drawn_where_its_points_are(tmp_path: Path, croatia: Any) -> None:
    """A line of 400 km that is straight in degrees bends by kilometres on the map."""
    line = LineString([(13.6, 45.2), (18.6, 45.5)])
    ends, fine = (
        draw_picture(
            tmp_path, draw_plan, region=croatia, planned_deg=np.zeros((0, 2)), layer=Layer(np.array([shape]))
        )
        for shape in (line, line.segmentize(0.01))
    )
    assert np.mean(np.abs(ends - fine).max(axis=-1) > 40) < 1e-4
