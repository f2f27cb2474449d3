"""Said: from a model's answers to the API's words. Plain values in, schemas out; no request and no network."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np
import shapely
from shapely.geometry import mapping, shape

from geoguesser.app.game import Game
from geoguesser.app.registry import ServedModel
from geoguesser.app.schemas import (
    COMPASS,
    CellProbability,
    Geometry,
    ModelInfo,
    PointFeature,
    Prediction,
    RoundResult,
)
from geoguesser.app.schemas import GameInfo as GameAnswer
from geoguesser.inference.predictions import Predictions
from geoguesser.reporting import web_map

MIN_PROBABILITY = 0.001  # of a cell that a posterior names
NUM_TOP_CELLS = 5


def make_prediction(
    model: ServedModel, answers: Predictions, row: int, views: list[bool], *, areas: bool = False
) -> Prediction:
    """One place's answer.

    Args:
        model: Whose.
        answers: Of several places.
        row: Which of them.
        views: (4,) by heading, which there were.
        areas: Whether to draw the outlines of the sets.
    """
    sets = {level: np.flatnonzero(inside[row]).tolist() for level, inside in (answers.sets or {}).items()}
    expected = answers.expected_error_km
    return Prediction(
        model=model.name,
        point=make_point(answers.coords_deg[row]),
        in_region=bool(answers.in_region[row]),
        views=[name for name, there in zip(COMPASS, views, strict=True) if there],
        expected_error_km=None if expected is None else float(expected[row]),
        radius_km={level: float(radius[row]) for level, radius in (answers.radius_km or {}).items()},
        top_cells=_top(answers, row),
        posterior=_posterior(answers, row),
        sets=sets,
        areas={level: merge_cells(model, tuple(cells)) for level, cells in sets.items()} if areas else None,
    )


def _top(answers: Predictions, row: int) -> list[CellProbability]:
    if answers.posterior is None:
        return []
    shares = answers.posterior[row]
    return [_share(cell, shares[cell]) for cell in np.argsort(-shares, kind="stable")[:NUM_TOP_CELLS]]


def _posterior(answers: Predictions, row: int) -> list[CellProbability]:
    if answers.posterior is None:
        return []
    shares = answers.posterior[row]
    return [_share(cell, shares[cell]) for cell in np.flatnonzero(shares >= MIN_PROBABILITY)]


def _share(cell: Any, probability: Any) -> CellProbability:
    return CellProbability(cell=int(cell), probability=round(min(1.0, float(probability)), 6))


@lru_cache(maxsize=512)
def merge_cells(model: ServedModel, cells: tuple[int, ...]) -> Geometry:
    """The outline of some cells together, as a GeoJSON geometry; cells that touch are one piece.

    The corners are those of the cells as they are drawn, so that no sliver lies between two of them.
    """
    outlines = [shape(model.cells["features"][cell]["geometry"]) for cell in cells]
    together = shapely.union_all(outlines, grid_size=10.0**-web_map.DIGITS)
    parts = [mapping(part)["coordinates"] for part in shapely.get_parts(together).tolist()]
    return Geometry(type="MultiPolygon", coordinates=parts)


def make_point(coords_deg: Any) -> PointFeature:
    """(2,) latitude and longitude -> a point."""
    return PointFeature(latitude=float(coords_deg[0]), longitude=float(coords_deg[1]))


def make_model_info(model: ServedModel) -> ModelInfo:
    """What is to know of a model before it is asked."""
    ensemble, test = model.ensemble, model.test
    grid, image = ensemble.grid, ensemble.specs[0]
    return ModelInfo(
        name=model.name,
        region=ensemble.region.name,
        data=model.label,
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


def make_game_info(game: Game) -> GameAnswer:
    """A game as far as its player may see it."""
    number = game.round
    views = [False] * 4 if number is None else game.places.headings(game.rows[number - 1])
    return GameAnswer(
        game=game.id,
        model=game.model.name,
        rounds=len(game.rows),
        round=number,
        views=[name for name, there in zip(COMPASS, views, strict=True) if there],
        results=[
            RoundResult(
                round=at,
                truth=make_point(one.true_deg),
                your_guess=make_point(one.guess_deg),
                model_guess=make_point(one.model_deg),
                your_error_km=one.error_km,
                model_error_km=one.model_error_km,
                your_score=one.score,
                model_score=one.model_score,
            )
            for at, one in enumerate(game.results, start=1)
        ],
        your_total=sum(one.score for one in game.results),
        model_total=sum(one.model_score for one in game.results),
    )
