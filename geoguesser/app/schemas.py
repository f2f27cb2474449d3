"""Schemas of the API's requests and responses. Coordinates are in degrees, WGS 84."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True)
Heading = Literal["north", "east", "south", "west"]
# In the order of the headings 0, 90, 180 and 270 degrees.
COMPASS: tuple[Heading, ...] = ("north", "east", "south", "west")
LEVEL_KEY = "Maps a confidence level in percent to"


def _check_number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


# JSON has no integers of its own: 5.0 is accepted, true and "5" are refused.
JsonInteger = Annotated[int, Field(strict=False), BeforeValidator(_check_number)]


class PointFeature(BaseModel):
    """Point on the earth in degrees (WGS 84)."""

    latitude: float = Field(ge=-90, le=90, examples=[45.815])
    longitude: float = Field(ge=-180, le=180, examples=[15.982])


def make_point(coords_deg: Sequence[float]) -> PointFeature:
    """Makes a point from (2,) latitude and longitude in degrees."""
    return PointFeature(latitude=float(coords_deg[0]), longitude=float(coords_deg[1]))


class Geometry(BaseModel):
    """GeoJSON geometry, longitude first. Longitudes can exceed 180 where a shape crosses the date line."""

    type: Literal["Polygon", "MultiPolygon"]
    coordinates: list[Any] = Field(description="Rings of [longitude, latitude], as in RFC 7946.")


class Cell(BaseModel):
    """Cell as a GeoJSON feature."""

    type: Literal["Feature"]
    id: int = Field(description="Number of the cell, as in predictions.")
    properties: dict[str, Any]
    geometry: Geometry


class CellFeatures(BaseModel):
    """Cells of a model; empty for a model without cells."""

    type: Literal["FeatureCollection"]
    features: list[Cell]


class Health(BaseModel):
    """State of the server."""

    status: Literal["ok"]
    version: str
    models: int
    at_work: int = Field(description="Number of requests in progress.")
    most: int = Field(description="Maximum number of requests in progress; further ones get status 429.")


class ModelInfo(BaseModel):
    """Trained model."""

    name: str = Field(examples=["2026-11-27_23-37-08"])
    region: str = Field(examples=["Croatia"])
    data: str = Field(description="Label of the training data: `synthetic demo`, or empty for real places.")
    bounds: list[list[float]] = Field(description="[[south, west], [north, east]] of the land.")
    cells: int | None = Field(description="Number of cells; null for a model without cells.")
    cell_side_km: float | None = Field(description="Median side of the cells.")
    image_px: int = Field(description="Side of the square to which photos are resized.")
    image_fit: Literal["crop", "squash"] = Field(
        description="crop: the middle square of a photo is used; squash: the complete photo."
    )
    calibrated: bool = Field(description="Whether probabilities and radii are calibrated.")
    test_error_km_mean: float | None = Field(description="Mean error on the run's test split; null if unknown.")
    test_error_km_median: float | None = Field(
        description="Median error on the run's test split; null if unknown."
    )
    test_places: int | None = Field(description="Number of places in the test split; null if unknown.")
    game_places: int = Field(description="Number of places for the game; 0 if there is no game.")
    no_game: str = Field(description="Reason why there is no game; empty if there is one.")


class ModelList(BaseModel):
    """Models of the server; the first is the default."""

    models: list[ModelInfo]
    upload_mib: float = Field(description="Maximum size of a request with photos, in MiB.")


class CellProbability(BaseModel):
    """Cell with its probability."""

    cell: int
    probability: float = Field(ge=0, le=1)


class Prediction(BaseModel):
    """Predicted position of a place, with its uncertainty."""

    model: str
    point: PointFeature
    in_region: bool = Field(description="Whether the point lies on the region's land.")
    views: list[Heading] = Field(description="Headings of the photos that were used.")
    expected_error_km: float | None = Field(
        description="Expected error; null if the model does not predict it per place."
    )
    radius_km: dict[str, float] = Field(
        description=f"{LEVEL_KEY} the radius around the point that contains the place with this probability.",
        examples=[{"50": 19.4, "90": 84.1, "95": 178.8}],
    )
    top_cells: list[CellProbability] = Field(
        description="The five most probable cells, best first; empty for a model without cells."
    )
    posterior: list[CellProbability] = Field(
        description="Cells with a probability of at least 0.001, by number; empty for a model without cells."
    )
    sets: dict[str, list[int]] = Field(
        description=f"{LEVEL_KEY} the cells that together contain the place with this probability.",
        examples=[{"50": [28], "90": [28, 29, 34], "95": [22, 28, 29, 34]}],
    )
    areas: dict[str, Geometry] | None = Field(
        default=None, description="Outlines of the sets, if requested. Cells that touch are one polygon."
    )


class FolderRequest(BaseModel):
    """Folder to predict."""

    model_config = STRICT
    folder: str = Field(min_length=1, max_length=1000, examples=["holiday/zadar"], description=(
        "Path relative to the server's root and inside it: a place folder with one to four of 0.jpg (north), "
        "90.jpg, 180.jpg and 270.jpg, or a folder of place folders."
    ))  # fmt: skip
    model: str | None = Field(default=None, description="Name of a model; null for the default.")


class PlacePrediction(BaseModel):
    """Prediction for a place of a folder, or the reason why there is none."""

    place: str = Field(description="Name of the place's folder.")
    prediction: Prediction | None
    problem: str | None = Field(description="Reason why the place was left out.")


class FolderResponse(BaseModel):
    """Predictions for the places of a folder."""

    model: str
    places: list[PlacePrediction]
    left_out: int = Field(description="Number of places without a prediction.")


class GameRequest(BaseModel):
    """Game to begin."""

    model_config = STRICT
    model: str | None = Field(default=None, description="Name of the model to play against; null for the default.")
    rounds: JsonInteger = Field(default=5, ge=1, le=20)


class Guess(PointFeature):
    """Guess of the person."""

    model_config = STRICT
    round: JsonInteger = Field(ge=1, le=20, description="Number of the current round.")


class RoundResult(BaseModel):
    """Result of a round."""

    round: int
    truth: PointFeature
    your_guess: PointFeature
    model_guess: PointFeature
    your_error_km: float
    model_error_km: float
    your_score: float = Field(ge=0, le=5000, description="5000 exp(-10 d / D), D the diagonal of the region.")
    model_score: float = Field(ge=0, le=5000)


class GameInfo(BaseModel):
    """State of a game. The position of a place is included only after the guess."""

    game: str = Field(description="Id of the game; who knows it can play on.")
    model: str
    rounds: int
    round: int | None = Field(description="Number of the current round, from 1; null if the game is over.")
    views: list[Heading] = Field(description="Views present of the current place.")
    results: list[RoundResult] = Field(description="Results of the rounds that are over.")
    your_total: float
    model_total: float
