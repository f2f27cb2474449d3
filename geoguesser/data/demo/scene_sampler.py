"""Draws the scene of a synthetic place at random, with probabilities that depend on its surroundings.

Weather, season and light do not depend on them (except that snow lies only inland). Each custom changes a few
habits from region to region.
"""

from __future__ import annotations

import numpy as np

from geoguesser.data.demo.scene import LEAVES, Colour, Field, House, Light, Scene, Strip, Surroundings, Tree

HEIGHTS_M = {
    "cypress": (6, 12),
    "pine": (6, 11),
    "olive": (3, 5),
    "shrub": (0.9, 2.3),
    "oak": (6, 13),
    "poplar": (11, 20),
    "spruce": (8, 18),
    "bare": (6, 13),
}
AUTUMN: tuple[Colour, ...] = ((186, 128, 40), (166, 92, 40), (150, 134, 50))
SNOW: Colour = (226, 231, 238)
CAR_COLOURS: tuple[Colour, ...] = ((200, 203, 207), (150, 28, 30), (34, 44, 84), (40, 42, 46), (236, 236, 234))

# Colours towards which customs move those of walls (white, ochre) and of roofs (slate, bright red).
WHITE: Colour = (240, 238, 232)
OCHRE: Colour = (222, 170, 96)
SLATE: Colour = (104, 100, 100)
BRIGHT_RED: Colour = (196, 74, 44)

# Style of a house: colours of walls, colour of the roof, height of the roof over half its span, storeys, and
# whether the gable faces the road.
Style = tuple[tuple[Colour, ...], Colour, float, int, bool]
STYLES: dict[str, Style] = {
    "dalmatia": (((222, 212, 192), (238, 232, 218), (206, 194, 170)), (204, 120, 80), 0.45, 2, False),
    "istria": (((196, 180, 150), (224, 190, 140), (232, 214, 178)), (190, 112, 76), 0.4, 2, False),
    "slavonia": (((240, 226, 178), (238, 234, 226), (196, 208, 176)), (150, 78, 58), 0.85, 1, True),
    "highland": (((126, 98, 74), (226, 222, 214), (104, 82, 64)), (98, 96, 98), 1.45, 1, False),
    "north": (((188, 112, 82), (206, 202, 194), (232, 210, 150)), (164, 74, 56), 0.95, 2, False),
}


def make_scene(site: Surroundings, rng: np.random.Generator) -> Scene:
    """Draws the scene of a place; the order of the draws determines the scene."""
    season = str(rng.choice(["summer", "spring", "autumn", "winter"], p=[0.6, 0.2, 0.14, 0.06]))
    snowy = season == "winter" and site.mediterranean < 0.4 and rng.random() < 0.6
    grass = _choose_grass(site, season, snowy, rng)
    asphalt = rng.random() < 0.9
    cloud, visibility_km = _sample_weather(rng)
    farmed = rng.random() < _compute_farmed_share(site)
    left, right = (_sample_field(site, grass, farmed, snowy, rng) for _ in range(2))
    tone = 104.0 + 34.0 * float(np.tanh(site.customs[6])) + rng.normal(0, 5) if asphalt else rng.uniform(150, 175)

    return Scene(
        road_deg=_sample_road_bearing(site, rng),
        lane_m=float(rng.choice([-1.6, 1.6])),
        road_half_m=rng.uniform(2.6, 3.6),
        road=(tone, tone, tone * 1.02) if asphalt else (tone, tone * 0.93, tone * 0.8),
        centre_line=asphalt and rng.random() < _chance(site.customs[1]),
        edge_line=asphalt and rng.random() < _chance(site.customs[6]),
        grass=grass,
        left=left,
        right=right,
        rock=(206.0, 202.0, 194.0),
        relief=_mix((72, 98, 62), (46, 74, 56), site.mountain) if not snowy else (150, 158, 164),
        rocky_relief=site.mediterranean,
        snow=float(snowy),
        strips=_sample_strips(site, season, rng),
        trees=_sample_trees(site, season, rng),
        houses=_sample_houses(site, rng),
        cars=_sample_cars(rng),
        poles=_sample_poles(site, rng),
        sun_deg=rng.normal(180, 32),
        sun_height_deg=rng.uniform(22, 58),
        cloud=cloud,
        visibility_km=visibility_km,
        light=_sample_light(rng),
        noise_offset_px=(int(rng.integers(512)), int(rng.integers(512))),
    )


def _mix(a: Colour, b: Colour, share: float) -> Colour:
    return tuple((1.0 - share) * x + share * y for x, y in zip(a, b, strict=True))  # type: ignore[return-value]


def _lean(
    colour: Colour, custom: float, low: Colour, high: Colour, *, slope: float = 0.5, limit: float = 0.8
) -> Colour:
    """Moves a colour towards `low` for a low custom, towards `high` for a high one."""
    return _mix(colour, low if custom < 0 else high, min(slope * abs(custom), limit))


def _vary(colour: Colour, rng: np.random.Generator, share: float = 0.1) -> Colour:
    """Changes the brightness of a colour and, less, its hue."""
    bright, *hue = 1.0 + share * rng.standard_normal(4)
    red, green, blue = (
        min(max(part * bright * (1.0 + (tint - 1.0) / 3.0), 8.0), 250.0)
        for part, tint in zip(colour, hue, strict=True)
    )
    return float(red), float(green), float(blue)


def _chance(custom: float) -> float:
    """Converts a custom to a probability, steeply, so that neighbours mostly have the same habits."""
    return float(1.0 / (1.0 + np.exp(-5.0 * custom)))


def _sample_weather(rng: np.random.Generator) -> tuple[float, float]:
    kind = rng.choice(5, p=[0.38, 0.31, 0.22, 0.03, 0.06])
    cloud = rng.uniform(*((0.0, 0.2), (0.3, 0.6), (0.85, 1.0), (0.9, 1.0), (0.1, 0.6))[kind])
    visibility_km = rng.uniform(*((45, 90), (40, 80), (25, 50), (0.15, 0.8), (8, 16))[kind])
    return float(cloud), float(visibility_km)


def _sample_light(rng: np.random.Generator) -> Light:
    """Draws light and camera; they vary so much that mean colours carry little information about the place."""
    warm, green = rng.normal(0.0, 0.028), rng.normal(0.0, 0.01)
    gains = (float(np.exp(warm)), float(np.exp(green)), float(np.exp(-warm)))
    exposure, gamma = np.exp(rng.normal(-0.04, 0.06)), np.exp(rng.normal(0.05, 0.06))
    return Light(gains, rng.uniform(0.75, 1.0), float(gamma), float(exposure), rng.uniform(1.0, 2.5))


def _sample_road_bearing(site: Surroundings, rng: np.random.Generator) -> float:
    """Draws the bearing of the road: parallel to the coast, changed by a custom, in either direction."""
    return 125.0 + 40.0 * site.customs[8] + 7.0 * rng.normal() + (180.0 if rng.random() < 0.5 else 0.0)


def _choose_grass(site: Surroundings, season: str, snowy: bool, rng: np.random.Generator) -> Colour:
    if snowy:
        return _vary(SNOW, rng, 0.03)
    green, dry = (98, 138, 54), (182, 160, 100)
    dryness = {"spring": 0.25, "summer": 0.35, "autumn": 0.45, "winter": 0.55}[season]
    dryness += 0.3 * site.mediterranean + 0.45 * site.customs[5] + 0.06 * rng.normal()
    return _vary(_mix(green, dry, min(max(dryness, 0.0), 1.0)), rng, 0.08)


def _compute_farmed_share(site: Surroundings) -> float:
    regional = 0.9 * site.east + 0.9 * site.istria - 0.5 * site.mountain - 0.5 * site.mediterranean
    return _chance(0.7 * site.customs[4] - 0.2 + regional)


def _sample_field(site: Surroundings, grass: Colour, farmed: bool, snowy: bool, rng: np.random.Generator) -> Field:
    """Draws rows of a crop or of vines, or a meadow with bare patches; there is rock on red soil by the sea."""
    c = site.customs
    rock = site.mediterranean * (1.0 - 0.8 * site.istria) * min(max(0.7 + 0.3 * c[1], 0.1), 1.0)

    # Brown inland, red by the sea.
    earth = _mix((128, 102, 74), (156, 84, 52), site.mediterranean)
    soil = _vary((200, 204, 208) if snowy else earth, rng, 0.06)
    if not farmed or rng.random() < 0.15:
        return Field(grass, soil, 0.0, rock * rng.uniform(0.8, 1.0), _chance(0.4 * c[1]))
    ripe_to_green = _mix((196, 176, 92), (84, 122, 44), _chance(0.4 * c[6] + 0.2 * rng.normal()))
    crop = grass if snowy else _vary(ripe_to_green, rng)
    spacing_m = 2.4 * float(np.exp(0.45 * c[3] + 0.05 * rng.normal()))
    return Field(crop, soil, spacing_m, 0.3 * rock, 0.0)


def _compute_tree_shares(site: Surroundings) -> dict[str, float]:
    c, med = site.customs, site.mediterranean
    inland = 1.0 - med
    weights = {
        "cypress": 1.1 * med * (1.0 - 0.7 * site.istria) * np.exp(0.7 * c[2]),
        "pine": 0.9 * med * np.exp(-0.7 * c[2]),
        "olive": 0.9 * med * np.exp(0.6 * c[7]),
        "shrub": 1.3 * med + 0.2,
        "oak": inland * (1.1 - 0.8 * site.mountain) * np.exp(0.9 * c[2]) + 0.4 * site.istria,
        "poplar": inland * (0.15 + 1.0 * site.east) * np.exp(0.9 * c[3]) * (1.0 - site.mountain),
        "spruce": inland * (0.4 + 1.6 * site.mountain) * np.exp(-1.1 * c[2]),
    }
    sharp = {kind: float(weight) ** 2.5 for kind, weight in weights.items()}
    return {kind: weight / sum(sharp.values()) for kind, weight in sharp.items()}


def _choose_leaf_colour(kind: str, season: str, custom: float, rng: np.random.Generator) -> Colour:
    """Draws the colour of leaves: bluish for a low custom, yellowish for a high one, partly brown in autumn."""
    if season == "autumn" and kind in ("oak", "poplar") and rng.random() < 0.7:
        return _vary(AUTUMN[rng.integers(len(AUTUMN))], rng, 0.12)
    shade = _mix(LEAVES[kind], (200, 220, 90), 0.15 * (season == "spring"))
    return _vary(_lean(shade, custom, (20, 70, 84), (176, 168, 40), slope=0.3, limit=0.45), rng, 0.09)


def _sample_trees(site: Surroundings, season: str, rng: np.random.Generator) -> tuple[Tree, ...]:
    density = np.exp(0.6 * site.customs[7] + 0.1 * rng.normal()) * (1.0 - 0.4 * site.east)
    shares = _compute_tree_shares(site)
    trees = []

    for drawn in rng.choice(list(shares), min(int(44 * density), 90), p=list(shares.values())).tolist():
        kind = "bare" if season == "winter" and drawn in ("oak", "poplar") else drawn
        u_m = (1.0 if rng.random() < 0.5 else -1.0) * (6.5 + 30.0 * rng.random() ** 1.5)
        height_m = rng.uniform(*HEIGHTS_M[kind]) * (0.75 if abs(u_m) < 10 else 1.0)
        colour = _choose_leaf_colour(kind, season, site.customs[4], rng)
        trees.append(Tree(kind, float(u_m), rng.uniform(-90, 90), height_m, colour))
    return tuple(trees)


def _sample_houses(site: Surroundings, rng: np.random.Generator) -> tuple[House, ...]:
    med, istria = site.mediterranean, site.istria
    weights = {
        "dalmatia": med * (1.0 - 0.9 * istria),
        "istria": 1.2 * istria,
        "slavonia": (1.0 - med) * site.east,
        "highland": (1.0 - med) * site.mountain * 1.5,
        "north": (1.0 - med) * (1.0 - site.east) * (1.0 - 0.6 * site.mountain),
    }
    shares = np.array(list(weights.values())) ** 3 + 0.002

    # Slots along both sides of the road, so that houses do not overlap.
    houses: list[House] = []
    for slot in rng.permutation(18)[: int(rng.integers(4, 9))]:
        style = str(rng.choice(list(weights), p=shares / shares.sum()))
        side, v_m = (-1.0 if slot % 2 else 1.0), -60.0 + 15.0 * (slot // 2) + rng.uniform(-2, 2)
        houses.append(_sample_house(STYLES[style], side, v_m, site, rng))
    return tuple(houses)


def _sample_house(style: Style, side: float, v_m: float, site: Surroundings, rng: np.random.Generator) -> House:
    walls, roof, pitch, storeys, gable_to_road = style
    half_width_m, half_length_m = rng.uniform(3.2, 4.2), rng.uniform(4.5, 6.0)
    storeys += int(rng.random() < _chance(site.customs[3] - 0.8))
    wide_roof = pitch * float(np.exp(0.3 * site.customs[0]))
    setback_m = (half_length_m if gable_to_road else half_width_m) + rng.uniform(7.0, 11.5)
    shutters: Colour = (62, 96, 70) if site.mediterranean > 0.5 else (104, 74, 52)

    return House(
        side * setback_m,
        float(v_m),
        half_width_m,
        half_length_m,
        0.5 + 2.7 * storeys,
        half_width_m * wide_roof,
        gable_to_road if rng.random() < 0.85 else not gable_to_road,
        _vary(_lean(walls[rng.integers(3)], site.customs[1], WHITE, OCHRE), rng, 0.04),
        _vary(_lean(roof, site.customs[0], SLATE, BRIGHT_RED), rng, 0.07),
        shutters,
    )


def _sample_strips(site: Surroundings, season: str, rng: np.random.Generator) -> tuple[Strip, ...]:
    c, strips = site.customs, []
    conifers = _chance(0.4 * c[2] - 0.5 + 1.2 * site.mountain)
    for side in (-1.0, 1.0):
        if rng.random() < 0.9 - 0.3 * site.mediterranean:
            kind = "spruce" if rng.random() < conifers else ("bare" if season == "winter" else "oak")
            away_m = 70.0 * float(np.exp(0.4 * c[7] + 0.15 * rng.normal())) + 60.0 * site.east
            height_m = 11.0 * float(np.exp(-0.35 * c[2] + 0.1 * rng.normal()))
            strips.append(
                Strip(kind, side * away_m, height_m, _choose_leaf_colour(kind, season, site.customs[4], rng))
            )
        if season in ("summer", "autumn") and rng.random() < 0.4 * site.east:
            maize: Colour = (112, 132, 52) if season == "summer" else (176, 150, 92)
            strips.append(Strip("maize", side * rng.uniform(9, 20), 2.3, _vary(maize, rng)))
        if rng.random() < _chance(0.6 * c[9] + 0.2):
            strips.append(_sample_fence(side, site, season, rng))
    return tuple(strips)


def _sample_fence(side: float, site: Surroundings, season: str, rng: np.random.Generator) -> Strip:
    u_m = side * rng.uniform(4.8, 6.2)
    height_m = 1.05 * float(np.exp(0.2 * site.customs[9] + 0.08 * rng.normal()))
    if rng.random() < 0.85 * site.mediterranean:
        return Strip("stones", u_m, height_m, _vary((206, 200, 188), rng, 0.06))
    if rng.random() < _chance(site.customs[5]):
        return Strip("hedge", u_m, 1.2 * height_m, _choose_leaf_colour("shrub", season, site.customs[4], rng))
    return Strip("pickets", u_m, height_m, _vary((132, 112, 92), rng, 0.2))


def _sample_cars(rng: np.random.Generator) -> tuple[tuple[float, float, Colour], ...]:
    count = int(rng.choice([0, 1, 2], p=[0.5, 0.35, 0.15]))
    sides = rng.choice([-1.0, 1.0], count)
    tints = [CAR_COLOURS[rng.integers(len(CAR_COLOURS))] for _ in range(count)]
    return tuple((1.7 * s, -s * rng.uniform(9, 45), t) for s, t in zip(sides, tints, strict=True))


def _sample_poles(site: Surroundings, rng: np.random.Generator) -> tuple[str, float, float, float]:
    if rng.random() < 0.15:
        return "", 0.0, 1.0, 0.0
    kind = "concrete" if rng.random() < _chance(site.customs[3]) else "wood"
    return kind, float(rng.choice([-1.0, 1.0])) * rng.uniform(4.2, 5.0), rng.uniform(28, 42), rng.uniform(0, 30)
