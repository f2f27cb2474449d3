"""Conversion of predictions, models and games to the API's schemas."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
import shapely
from shapely.geometry import mapping, shape

from geoguesser.app.game import Game
from geoguesser.app.registry import ServedModel
from geoguesser.app.schemas import (
    COMPASS,
    CellProbability,
    GameInfo,
    Geometry,
    Heading,
    ModelInfo,
    Prediction,
    make_point,
)
from geoguesser.arrays import FloatArray, IntArray
from geoguesser.inference.predictions import Predictions
from geoguesser.reporting import web_map

# Cells of a smaller probability are left out of the posterior of a response.
MIN_PROBABILITY = 0.001
NUM_TOP_CELLS = 5


def make_prediction(
    model: ServedModel, predictions: Predictions, row: int, views: list[bool], *, areas: bool = False
) -> Prediction:
    """Makes the response for the place in a row of a batch, of which the (4,) `views` are present by heading."""
    sets = {level: np.flatnonzero(inside[row]).tolist() for level, inside in (predictions.sets or {}).items()}
    expected_km = predictions.expected_error_km
    posterior = np.empty(0) if predictions.posterior is None else predictions.posterior[row]

    return Prediction(
        model=model.name,
        point=make_point(predictions.coords_deg[row]),
        in_region=bool(predictions.in_region[row]),
        views=_name_headings(views),
        expected_error_km=None if expected_km is None else float(expected_km[row]),
        radius_km={level: float(radius[row]) for level, radius in (predictions.radius_km or {}).items()},
        top_cells=_list_cells(posterior, np.argsort(-posterior, kind="stable")[:NUM_TOP_CELLS]),
        posterior=_list_cells(posterior, np.flatnonzero(posterior >= MIN_PROBABILITY)),
        sets=sets,
        areas={level: merge_cells(model, tuple(cells)) for level, cells in sets.items()} if areas else None,
    )


def _name_headings(views: list[bool]) -> list[Heading]:
    return [name for name, present in zip(COMPASS, views, strict=True) if present]


def _list_cells(posterior: FloatArray, cells: IntArray) -> list[CellProbability]:
    # The schema refuses probabilities above 1, which rounding errors can cause.
    return [
        CellProbability(cell=int(cell), probability=round(min(1.0, float(posterior[cell])), 6)) for cell in cells
    ]


@lru_cache(maxsize=512)
def merge_cells(model: ServedModel, cells: tuple[int, ...]) -> Geometry:
    """Merges cells of a model into one GeoJSON geometry, in which cells that touch are one polygon."""
    outlines = [shape(model.cells["features"][cell]["geometry"]) for cell in cells]

    # The corners of the drawn cells are rounded. The union on the same grid leaves no slivers between neighbours.
    union = shapely.union_all(outlines, grid_size=10.0**-web_map.DIGITS)
    parts = [mapping(part)["coordinates"] for part in shapely.get_parts(union).tolist()]
    return Geometry(type="MultiPolygon", coordinates=parts)


def make_model_info(model: ServedModel) -> ModelInfo:
    """Makes the description of a model."""
    ensemble, test = model.ensemble, model.test
    grid, image = ensemble.grid, ensemble.specs[0]
    return ModelInfo(
        name=model.name,
        # A received checkpoint can hold text that is not Unicode, which JSON cannot encode.
        region=ensemble.region.name.encode(errors="backslashreplace").decode(),
        data=model.label.encode(errors="backslashreplace").decode(),
        bounds=web_map.compute_bounds(ensemble.region),
        cells=None if grid is None else grid.num_cells,
        cell_side_km=None if grid is None else grid.side_km,
        image_px=image.size,
        image_fit="crop" if image.fit == "crop" else "squash",
        calibrated=ensemble.calibrated,
        test_error_km_mean=test.get("error_km_mean"),
        test_error_km_median=test.get("error_km_median"),
        test_places=test.get("places"),
        game_places=0 if model.game_places is None else len(model.game_places),
        no_game=model.no_game,
    )


def make_game_info(game: Game) -> GameInfo:
    """Makes the state of a game for its player: nothing about places whose round is not over."""
    number = game.round
    views = [False] * 4 if number is None else game.places.find_views(game.rows[number - 1])
    return GameInfo(
        game=game.id,
        model=game.model.name,
        rounds=len(game.rows),
        round=number,
        views=_name_headings(views),
        results=game.results,
        your_total=sum(result.your_score for result in game.results),
        model_total=sum(result.model_score for result in game.results),
    )
