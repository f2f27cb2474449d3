"""Columns of the table that predict writes. The first three are those of a competition."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from geoguesser.arrays import IntArray
from geoguesser.inference.predictions import Predictions

RADIUS_LEVELS = ("50", "90")
NUM_TOP_CELLS = 5
COMPETITION_COLUMNS = ("uuid", "latitude", "longitude")


def list_columns(with_cells: bool) -> list[str]:
    """Returns the columns of `make_rows`, in order."""
    names = [*COMPETITION_COLUMNS, "expected_error_km", *(f"radius_{level}_km" for level in RADIUS_LEVELS)]
    names += ["in_region", "views", "broken"]
    if with_cells:
        for rank in range(1, NUM_TOP_CELLS + 1):
            name = f"cell_{rank}"
            names += [name, f"{name}_probability", f"{name}_latitude", f"{name}_longitude"]
    return names


def make_rows(
    uuids: Sequence[str], predictions: Predictions, views: IntArray, problems: Sequence[str], *, with_cells: bool
) -> pd.DataFrame:
    """Returns a row per place, with the columns of `list_columns`; NaN for values that the model does not provide.

    `views` is (N,) the number of views that were used, and `problems` the text of the column `broken`, empty for a
    place without problems.
    """
    unknown = np.full(len(predictions), np.nan)
    expected_km = predictions.expected_error_km
    radii = predictions.radius_km or {}
    columns: dict[str, object] = {
        "uuid": list(uuids),
        "latitude": predictions.coords_deg[:, 0],
        "longitude": predictions.coords_deg[:, 1],
        "expected_error_km": unknown if expected_km is None else expected_km,
        **{f"radius_{level}_km": radii.get(level, unknown) for level in RADIUS_LEVELS},
        "in_region": predictions.in_region,
        "views": views,
        "broken": list(problems),
    }

    if with_cells:
        assert predictions.grid is not None
        best, probability = predictions.top_cells(NUM_TOP_CELLS)
        points = predictions.grid.class_points_deg[best]
        for rank in range(best.shape[1]):
            name, (latitude, longitude) = f"cell_{rank + 1}", points[:, rank].T
            columns |= {name: best[:, rank], f"{name}_probability": probability[:, rank]}
            columns |= {f"{name}_latitude": latitude, f"{name}_longitude": longitude}
    return pd.DataFrame(columns, columns=list_columns(with_cells))


def make_empty_row(uuid: str, views: int, problems: str, *, with_cells: bool) -> pd.DataFrame:
    """Returns the row of a place that is not predicted: only id, number of views and problems."""
    row = dict.fromkeys(list_columns(with_cells)) | {"uuid": uuid, "views": views, "broken": problems}
    return pd.DataFrame([row])
