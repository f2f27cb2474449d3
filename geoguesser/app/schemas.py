"""Schemas: what the API takes and gives, as its OpenAPI file documents it. Coordinates are in degrees, WGS 84."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field

STRICT = ConfigDict(extra="forbid", strict=True)
Heading = Literal["north", "east", "south", "west"]
COMPASS: tuple[Heading, ...] = ("north", "east", "south", "west")  # by heading: 0, 90, 180, 270 degrees
LEVEL_KEY = "Level in percent"


def _number(value: Any) -> Any:
    if isinstance(value, bool | str):
        raise ValueError("must be a number")
    return value


JsonInteger = Annotated[
    int, Field(strict=False), BeforeValidator(_number)
]  # 5.0 is one for JSON, true and "5" are none


class PointFeature(BaseModel):
    """A point on the earth, in degrees (WGS 84)."""

    latitude: float = Field(ge=-90, le=90, examples=[45.815])
    longitude: float = Field(ge=-180, le=180, examples=[15.982])


class Geometry(BaseModel):
    """A GeoJSON geometry, longitude first; longitudes may pass 180 where a shape crosses the date line."""

    type: Literal["Polygon", "MultiPolygon"]
    coordinates: list[Any] = Field(description="Rings of [longitude, latitude], as in RFC 7946.")


class Cell(BaseModel):
    """A cell as a GeoJSON feature."""

    type: Literal["Feature"]
    id: int = Field(description="The cell's number, as in predictions.")
    properties: dict[str, Any]
    geometry: Geometry


class CellFeatures(BaseModel):
    """All cells of a model; none for a model without."""

    type: Literal["FeatureCollection"]
    features: list[Cell]


class Health(BaseModel):
    """Whether the server works, and how much it has to do."""

    status: Literal["ok"]
    version: str
    models: int
    at_work: int = Field(description="Requests that are being read or answered.")
    most: int = Field(description="How many may be; more are answered 429.")


class ModelInfo(BaseModel):
    """A trained run."""

    name: str = Field(examples=["2026-11-27_23-37-08"])
    region: str = Field(examples=["Croatia"])
    data: str = Field(description="What is to say of its data: `synthetic demo`; empty for real places.")
    bounds: list[list[float]] = Field(description="[[south, west], [north, east]] of the land.")
    cells: int | None = Field(description="How many; null for a model without.")
    cell_side_km: float | None = Field(description="The median of the cells' sides.")
    image_px: int = Field(description="The side of the square that a photo is brought to.")
    image_fit: Literal["crop", "squash"] = Field(description="crop: its middle square; squash: all of it.")
    calibrated: bool = Field(description="Whether probabilities and radii rest on calibration places.")
    test_error_km_mean: float | None = Field(description="On the run's own test split; null where not known.")
    test_error_km_median: float | None = Field(description="Likewise.")
    test_places: int | None = Field(description="How many places that split has.")
    game_places: int = Field(description="How many places the game can draw from; 0 for no game.")
    no_game: str = Field(description="Why there is no game; empty where there is one.")


class ModelList(BaseModel):
    """The server's models; the first is the one that is asked where none is named."""

    models: list[ModelInfo]
    upload_mib: float = Field(description="How large a request with photos may be, in MiB.")


class CellProbability(BaseModel):
    """A cell and its probability."""

    cell: int
    probability: float = Field(ge=0, le=1)


class Prediction(BaseModel):
    """Where a place is, and how sure that is."""

    model: str
    point: PointFeature
    in_region: bool = Field(description="Whether the point lies on the region's land.")
    views: list[Heading] = Field(description="The headings whose photos were used.")
    expected_error_km: float | None = Field(description="null where the model knows none by place.")
    radius_km: dict[str, float] = Field(
        description=f"{LEVEL_KEY} -> the distance from the point within which the place lies so probably.",
        examples=[{"50": 19.4, "90": 84.1, "95": 178.8}],
    )
    top_cells: list[CellProbability] = Field(
        description="The five most probable cells, best first; empty without cells."
    )
    posterior: list[CellProbability] = Field(
        description="All cells of at least a thousandth, by number; empty without cells."
    )
    sets: dict[str, list[int]] = Field(
        description=f"{LEVEL_KEY} -> the cells that together hold the place with that probability.",
        examples=[{"50": [28], "90": [28, 29, 34], "95": [22, 28, 29, 34]}],
    )
    areas: dict[str, Geometry] | None = Field(
        default=None, description="The sets' outlines, each in one piece where its cells touch; where asked for."
    )


class FolderRequest(BaseModel):
    """A folder to predict."""

    model_config = STRICT
    folder: str = Field(min_length=1, max_length=1000, examples=["holiday/zadar"], description=(
        "Inside the server's root and relative to it: a place folder with 0.jpg (north), 90.jpg, 180.jpg, 270.jpg "
        "(one to four), or a folder of place folders."
    ))  # fmt: skip
    model: str | None = Field(default=None, description="A model's name; null for the first.")


class PlacePrediction(BaseModel):
    """What came of one place of a folder: a prediction, or why there is none."""

    place: str = Field(description="The name of its folder.")
    prediction: Prediction | None
    problem: str | None = Field(description="Why the place was left out.")


class FolderResponse(BaseModel):
    """What came of a folder."""

    model: str
    places: list[PlacePrediction]
    left_out: int = Field(description="How many places have no prediction.")


class GameRequest(BaseModel):
    """A game to begin."""

    model_config = STRICT
    model: str | None = Field(default=None, description="Whom to play against; null for the first.")
    rounds: JsonInteger = Field(default=5, ge=1, le=20)


class Guess(PointFeature):
    """Where the person believes the place to be."""

    model_config = STRICT
    round: JsonInteger = Field(ge=1, le=20, description="The number of the round that is on.")


class RoundResult(BaseModel):
    """What came of a round."""

    round: int
    truth: PointFeature
    your_guess: PointFeature
    model_guess: PointFeature
    your_error_km: float
    model_error_km: float
    your_score: float = Field(ge=0, le=5000, description="5000 exp(-10 d / D), D the diagonal of the region.")
    model_score: float = Field(ge=0, le=5000)


class GameInfo(BaseModel):
    """A game, as far as it has come. Where a place is stands here only after the guess."""

    game: str = Field(description="Its id; who has it may play on.")
    model: str
    rounds: int
    round: int | None = Field(description="The round that is on, from 1; null when the game is over.")
    views: list[Heading] = Field(description="The views that the round's place has.")
    results: list[RoundResult] = Field(description="The rounds that are over.")
    your_total: float
    model_total: float
