"""The words of the synthetic country: what the map says of a place, what is on its horizon, what stands there.

A scene is only a description: `demo_habits` draws it at random, `demo_render` turns it into four views. Its
frame is the road's: `u` metres to the right of the road's axis, `v` metres along it, from where the
camera stands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy.typing as npt

Image = npt.NDArray[Any]
Colour = tuple[float, float, float]  # red, green, blue from 0 to 255

LEAVES: dict[str, Colour] = {
    "cypress": (44, 72, 44),
    "pine": (66, 98, 52),
    "olive": (128, 138, 104),
    "shrub": (88, 104, 58),
    "oak": (84, 118, 46),
    "poplar": (104, 134, 58),
    "spruce": (42, 72, 52),
    "bare": (112, 98, 86),
}


@dataclass(frozen=True)
class Surroundings:
    """What the map says about one place.

    Attributes:
        elevation_m: Invented elevation.
        sea_km: Distance to the sea.
        mediterranean: 0 inland to 1 on the coast.
        istria: 0 to 1 in the middle of Istria.
        east: 0 in the west to 1 in the eastern plain.
        mountain: 0 in the plain to 1 in the highlands.
        customs: NUM_CUSTOMS smooth fields of mean 0 and deviation 1, without any meaning of their own.
    """

    elevation_m: float
    sea_km: float
    mediterranean: float
    istria: float
    east: float
    mountain: float
    customs: tuple[float, ...]


@dataclass(frozen=True)
class Horizon:
    """What is seen along N bearings from one place.

    Attributes:
        relief_rad: (3, N) the greatest elevation angle of land in each band, at least 0.
        distance_km: (3, N) how far away that land is.
        sea_km: (N,) where the sea begins, infinite where none is seen.
    """

    relief_rad: Image
    distance_km: Image
    sea_km: Image


class Tree(NamedTuple):
    """A tree or bush: its kind (a key of LEAVES), foot, height and colour."""

    kind: str
    u_m: float
    v_m: float
    height_m: float
    colour: Colour


class House(NamedTuple):
    """A house: its middle, half width (across the ridge), half length, walls, roof and colours."""

    u_m: float
    v_m: float
    half_width_m: float
    half_length_m: float
    wall_m: float
    roof_m: float
    ridge_across: bool
    wall: Colour
    roof: Colour
    shutters: Colour


class Strip(NamedTuple):
    """Something that runs along the road: a forest's edge, a crop, a stone wall, a hedge, a fence."""

    kind: str
    u_m: float
    height_m: float
    colour: Colour


class Field(NamedTuple):
    """The ground on one side: plants in rows (none if the spacing is 0), shares of rock and bare patches."""

    plants: Colour
    soil: Colour
    spacing_m: float
    rock: float
    patches: float


class Light(NamedTuple):
    """How the camera saw the day: gains of red, green, blue, saturation, gamma, exposure, noise's deviation."""

    gains: tuple[float, float, float]
    saturation: float
    gamma: float
    exposure: float
    noise: float


@dataclass(frozen=True)
class Scene:
    """One synthetic place, ready to be drawn; see the module's docstring for its frame."""

    road_deg: float
    lane_m: float
    road_half_m: float
    road: Colour
    centre_line: bool
    edge_line: bool
    grass: Colour
    left: Field
    right: Field
    rock: Colour
    relief: Colour
    rocky_relief: float
    snow: float
    strips: tuple[Strip, ...]
    trees: tuple[Tree, ...]
    houses: tuple[House, ...]
    cars: tuple[tuple[float, float, Colour], ...]
    poles: tuple[str, float, float, float]  # kind ("" for none), u in m, spacing in m, first v in m
    sun_deg: float
    sun_height_deg: float
    cloud: float
    visibility_km: float
    light: Light
    noise_at: tuple[int, int]
