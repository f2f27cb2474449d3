"""Data classes of the synthetic country: surroundings and horizon of a place, and its scene.

A scene is a description: `scene_sampler.py` draws it at random, `renderer.py` renders four views of it. Its frame
is that of the road: `u` metres to the right of the axis of the road and `v` metres along it, from the camera.
"""

from __future__ import annotations

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


class Surroundings(NamedTuple):
    """Surroundings of a place, from the map: invented elevation, distance to the sea, and degrees from 0 to 1.

    1 is on the coast, in the middle of Istria, in the eastern plain, and in the highlands. `customs` are values of
    NUM_CUSTOMS smooth fields with mean 0 and standard deviation 1; each moves a few habits.
    """

    elevation_m: float
    sea_km: float
    mediterranean: float
    istria: float
    east: float
    mountain: float
    customs: tuple[float, ...]


class Horizon(NamedTuple):
    """Horizon of a place along N bearings.

    Attributes:
        relief_rad: (3, N) greatest elevation angle of land in each band, at least 0.
        distance_km: (3, N) distance of that land in km.
        sea_km: (N,) distance in km at which the sea begins; infinite if none is visible.
    """

    relief_rad: Image
    distance_km: Image
    sea_km: Image


class Tree(NamedTuple):
    """Tree or bush: its kind (a key of LEAVES), foot, height and colour."""

    kind: str
    u_m: float
    v_m: float
    height_m: float
    colour: Colour


class House(NamedTuple):
    """House: its centre, half width (across the ridge), half length, walls, roof and colours."""

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
    """Upright surface along the road: the edge of a forest, a crop, a stone wall, a hedge or a fence."""

    kind: str
    u_m: float
    height_m: float
    colour: Colour


class Field(NamedTuple):
    """Ground on one side: plants in rows (none if the spacing is 0), shares of rock and bare patches."""

    plants: Colour
    soil: Colour
    spacing_m: float
    rock: float
    patches: float


class Light(NamedTuple):
    """Light and camera: gains of red, green and blue, saturation, gamma, exposure, deviation of the noise."""

    gains: tuple[float, float, float]
    saturation: float
    gamma: float
    exposure: float
    noise: float


class Scene(NamedTuple):
    """Description of a synthetic place, in the frame that the docstring of this module describes.

    `poles` are the kind (empty for none), u, spacing, and v of the first pole, in metres.
    """

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
    poles: tuple[str, float, float, float]
    sun_deg: float
    sun_height_deg: float
    cloud: float
    visibility_km: float
    light: Light
    noise_offset_px: tuple[int, int]
