"""Answer table: what is written of each place that was predicted. The first three columns are a competition's."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser.inference.predictions import Predictions

LEVELS = ("50", "90")
TOP_CELLS = 5
COMPETITION = ("uuid", "latitude", "longitude")


def list_columns(with_cells: bool) -> list[str]:
    """The columns of `make_rows`, in order."""
    names = [*COMPETITION, "expected_error_km", *(f"radius_{level}_km" for level in LEVELS), "in_region"]
    names += ["views", "broken"]
    if with_cells:
        for rank in range(1, TOP_CELLS + 1):
            names += [
                f"cell_{rank}",
                f"cell_{rank}_probability",
                f"cell_{rank}_latitude",
                f"cell_{rank}_longitude",
            ]
    return names


def make_rows(
    uuids: Sequence[str],
    answers: Predictions,
    views: npt.NDArray[np.int64],
    broken: Sequence[str],
    *,
    with_cells: bool,
) -> pd.DataFrame:
    """One row per place.

    Args:
        uuids: (N,) their ids.
        answers: Of N places.
        views: (N,) how many views were seen.
        broken: (N,) what was wrong; empty where nothing was.
        with_cells: Whether the model has cells.

    Returns:
        The columns of `list_columns`; what the model does not know is NaN.
    """
    count = len(answers)
    unknown = np.full(count, np.nan)
    radii = answers.radius_km or {}
    expected = answers.expected_error_km
    table: dict[str, object] = {
        "uuid": list(uuids),
        "latitude": answers.coords_deg[:, 0],
        "longitude": answers.coords_deg[:, 1],
        "expected_error_km": unknown if expected is None else expected,
        **{f"radius_{level}_km": radii.get(level, unknown) for level in LEVELS},
        "in_region": answers.in_region,
        "views": views,
        "broken": list(broken),
    }
    if with_cells:
        table |= _top_cells(answers)
    return pd.DataFrame(table, columns=list_columns(with_cells))


def _top_cells(answers: Predictions) -> dict[str, object]:
    assert answers.grid is not None
    best, probability = answers.top_cells(TOP_CELLS)
    points = answers.grid.class_points_deg[best]
    table: dict[str, object] = {}
    for rank in range(best.shape[1]):
        name = f"cell_{rank + 1}"
        table |= {
            name: best[:, rank],
            f"{name}_probability": probability[:, rank],
            f"{name}_latitude": points[:, rank, 0],
            f"{name}_longitude": points[:, rank, 1],
        }
    return table


def make_blank_row(uuid: str, views: int, broken: str, *, with_cells: bool) -> pd.DataFrame:
    """The row of a place of which nothing, or too little, could be seen, and which is given no answer."""
    row = dict.fromkeys(list_columns(with_cells)) | {"uuid": uuid, "views": views, "broken": broken}
    return pd.DataFrame([row])
