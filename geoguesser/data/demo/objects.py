"""Objects of a synthetic view: trees from sprites; houses, cars and poles as solids."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from geoguesser.data.demo.camera import CAMERA_HEIGHT_M, Camera
from geoguesser.data.demo.scene import LEAVES, Colour, House, Image, Tree

# u, v and height in metres, or a direction in the same frame.
Point = tuple[float, float, float]

# Height and width of a sprite, and sprites per kind of tree.
SPRITE = (128, 96)
VARIANTS = 4
TRUNK: Colour = (92, 74, 58)
GLASS: Colour = (54, 58, 66)

# Crowns as ellipses in shares of the sprite: centre x, centre y, radius x, radius y; and radius of a blob in
# pixels.
CROWNS: dict[str, tuple[tuple[tuple[float, float, float, float], ...], float]] = {
    "cypress": (((0.5, 0.5, 0.085, 0.46), (0.5, 0.66, 0.12, 0.26)), 3.5),
    "pine": (((0.5, 0.3, 0.44, 0.15), (0.42, 0.22, 0.3, 0.12), (0.6, 0.36, 0.3, 0.1)), 6.0),
    "olive": (((0.5, 0.5, 0.42, 0.32), (0.35, 0.42, 0.25, 0.25), (0.66, 0.45, 0.25, 0.25)), 4.0),
    "shrub": (((0.5, 0.72, 0.44, 0.24), (0.36, 0.6, 0.22, 0.22), (0.64, 0.64, 0.25, 0.22)), 5.0),
    "oak": (((0.5, 0.4, 0.42, 0.34), (0.4, 0.3, 0.3, 0.25), (0.62, 0.34, 0.28, 0.24)), 7.0),
    "poplar": (((0.5, 0.47, 0.15, 0.44),), 5.0),
}


class PaintTarget(NamedTuple):
    """Target of painting: (px, px, 3) uint8 canvas, changed in place; geometry; (3,) colour of haze."""

    canvas: Image
    camera: Camera
    mist: Image

    def tint(self, colour: Colour, distance_m: float, light: float = 1.0) -> Image:
        """Returns (3,) a colour in the given light, behind the haze of a distance."""
        haze = float(self.camera.haze(distance_m))
        return np.array(colour) * (light * (1.0 - haze)) + haze * self.mist


@cache
def make_tree_sprite(kind: str, variant: int) -> Image:
    """Draws a sprite of a tree, once per kind and variant (from 0 to VARIANTS - 1).

    Returns:
        (128, 96, 3) float32: brightness of leaves, brightness of wood, opacity; the first two are multiplied by
        the opacity. The light comes from the upper left.
    """
    rng = np.random.default_rng((list(LEAVES).index(kind), variant))
    sprite = np.zeros((*SPRITE, 3), np.float32)
    height, width = SPRITE

    # The ellipse is the shadow at the foot.
    cv2.ellipse(sprite, (width // 2, height - 4), (width // 3, 4), 0, 0, 360, (0, 0, 0.35), -1)
    if kind == "bare":
        _draw_branches(sprite, np.array((width / 2, height - 4)), -np.pi / 2, 27.0, rng)
    else:
        trunk = 6 if kind in ("oak", "olive", "pine") else 3
        cv2.line(sprite, (width // 2, height - 4), (width // 2, height // 3), (0, 1, 1), trunk)
        _draw_spruce(sprite, rng) if kind == "spruce" else _draw_crown(sprite, kind, rng)

    blurred: Image = cv2.GaussianBlur(sprite, (3, 3), 0)
    return blurred


def _draw_crown(sprite: Image, kind: str, rng: np.random.Generator) -> None:
    """Fills the ellipses of a crown with blobs, the dark ones first and below."""
    height, width = SPRITE
    ellipses, radius = CROWNS[kind]
    blobs = []
    for middle_x, middle_y, radius_x, radius_y in ellipses:
        angle, away = rng.uniform(0, 2 * np.pi, 130), np.sqrt(rng.random(130)) * rng.uniform(0.85, 1.05)
        x, y = away * np.cos(angle), away * np.sin(angle)
        light = 0.85 - 0.22 * x - 0.3 * y + rng.normal(0, 0.1, 130)
        blobs.append(
            np.stack(((middle_x + radius_x * x) * width, (middle_y + radius_y * y) * height, light), axis=1)
        )

    crown = np.concatenate(blobs)
    for x, y, light in crown[np.argsort(crown[:, 2] + rng.normal(0, 0.12, len(crown)))]:
        size = max(1, int(radius * rng.uniform(0.6, 1.1)))
        cv2.circle(sprite, (int(x), int(y)), size, (float(np.clip(light, 0.4, 1.4)), 0, 1), -1)


def _draw_spruce(sprite: Image, rng: np.random.Generator) -> None:
    height, width = SPRITE
    tiers = 11
    for tier in range(tiers, 0, -1):
        top, foot = height * (0.04 + 0.78 * (tier - 1) / tiers), height * (0.1 + 0.82 * tier / tiers)
        half = width * (0.07 + 0.32 * tier / tiers) * rng.uniform(0.85, 1.1)
        for side, light in ((-1, 1.1), (1, 0.72)):
            corners = [(width / 2, top), (width / 2 + side * half, foot), (width / 2, foot - 3)]
            shade = light * rng.uniform(0.85, 1.1)
            cv2.fillConvexPoly(sprite, np.array(corners).astype(np.int32), (shade, 0, 1))


def _draw_branches(sprite: Image, start: Image, angle: float, length: float, rng: np.random.Generator) -> None:
    end = start + length * np.array((np.cos(angle), np.sin(angle)))
    light = 1.1 - 0.2 * np.cos(angle)
    ends = np.stack((start, end)).astype(int).tolist()
    cv2.line(sprite, ends[0], ends[1], (0, light, 1), max(1, round(0.006 * length**2)))
    if length > 7:
        for turn in (-0.5, 0.05, 0.5):
            bend = turn + float(rng.normal(0, 0.15))
            _draw_branches(sprite, end, angle + bend, length * float(rng.uniform(0.6, 0.78)), rng)


@cache
def _small_sprite(kind: str, variant: int, halvings: int) -> Image:
    """Returns a sprite at 1, 1/2, 1/4 or 1/8 of its size, because shrinking costs by source pixel."""
    size = (SPRITE[1] >> halvings, SPRITE[0] >> halvings)
    shrunk: Image = cv2.resize(make_tree_sprite(kind, variant), size, interpolation=cv2.INTER_AREA)
    return shrunk


def draw_tree(easel: PaintTarget, tree: Tree, foot_px: Image, depth_m: float) -> None:
    """Paints a tree that stands at (2,) `foot_px` in the image, `depth_m` metres away."""
    canvas, camera, mist = easel
    tall = camera.focal_px * tree.height_m / depth_m
    height, width = int(tall), int(tall * SPRITE[1] / SPRITE[0])
    left, top = int(foot_px[0] - width / 2), int(foot_px[1] - height)
    rows = slice(max(top, 0), min(top + height, camera.px))
    columns = slice(max(left, 0), min(left + width, camera.px))
    if height < 5 or rows.start >= rows.stop or columns.start >= columns.stop:
        return

    halvings = min(max(int(math.log2(SPRITE[0] / height)), 0), 3)
    sprite = _small_sprite(tree.kind, int(abs(tree.v_m) * 8) % VARIANTS, halvings)
    small = cv2.resize(sprite, (width, height), interpolation=cv2.INTER_LINEAR)
    part = small[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    # One matrix turns brightness of leaves, brightness of wood and opacity into a colour with haze.
    haze = float(camera.haze(depth_m))
    leaves, wood = np.array(tree.colour), np.array(tree.colour if tree.kind == "bare" else TRUNK)
    mixing = np.column_stack((leaves * (1.0 - haze), wood * (1.0 - haze), haze * mist))
    target = canvas[rows, columns]
    target[:] = np.minimum(target * (1.0 - part[..., 2:]) + cv2.transform(part, mixing.astype(np.float32)), 255.0)


def _draw_face(easel: PaintTarget, corners_m: Image, outward: Point, colour: Colour) -> bool:
    """Paints a flat face, (K, 3) u, v and height, and returns True if it is turned to the camera."""
    camera = easel.camera
    u, v, up = corners_m[0].tolist()
    if outward[0] * (camera.scene.lane_m - u) - outward[1] * v + outward[2] * (CAMERA_HEIGHT_M - up) <= 0.0:
        return False

    pixels, depth = camera.project(corners_m)
    if depth.min() < 1.5:
        return False
    _fill(easel.canvas, pixels[None], easel.tint(colour, depth.mean(), _compute_light(camera, outward)))
    return True


def _compute_light(camera: Camera, outward: Point) -> float:
    scene = camera.scene
    bearing, rise = math.radians(scene.sun_deg - scene.road_deg), math.radians(scene.sun_height_deg)
    sun = (math.sin(bearing) * math.cos(rise), math.cos(bearing) * math.cos(rise), math.sin(rise))
    facing = sum(a * b for a, b in zip(outward, sun, strict=True)) / math.hypot(*outward)
    direct = 0.55 * (1.0 - 0.75 * scene.cloud)
    return 1.02 - 0.75 * direct + direct * max(facing, -0.1)


def _fill(canvas: Image, pixels: Image, tint: Image) -> None:
    """Fills convex shapes, (N, K, 2) corners in pixels."""
    colour = np.clip(tint, 0, 255).tolist()
    for shape in np.rint(np.clip(pixels, -4000, 4000) * 16).astype(np.int32):
        cv2.fillConvexPoly(canvas, shape, colour, cv2.LINE_AA, shift=4)


def draw_house(easel: PaintTarget, house: House) -> None:
    """Paints a house with a gabled roof, windows and shutters."""
    a, b, wall, top = house.half_width_m, house.half_length_m, house.wall_m, house.wall_m + house.roof_m

    def place(corners: list[tuple[float, float, float]]) -> Image:
        local = np.array(corners)
        turned = local[:, [1, 0, 2]] if house.ridge_across else local
        return turned + np.array((house.u_m, house.v_m, 0.0))

    def outward(p: float, q: float, up: float) -> Point:
        return (q, p, up) if house.ridge_across else (p, q, up)

    for q in (-1.0, 1.0):
        gable = [(-a, q * b, 0.0), (-a, q * b, wall), (0.0, q * b, top), (a, q * b, wall), (a, q * b, 0.0)]
        if _draw_face(easel, place(gable), outward(0, q, 0), house.wall):
            _draw_windows(easel, place([(-a, q * b, 0.0), (a, q * b, wall)]), house, 2)
    for p in (-1.0, 1.0):
        side = [(p * a, -b, 0.0), (p * a, -b, wall), (p * a, b, wall), (p * a, b, 0.0)]
        if _draw_face(easel, place(side), outward(p, 0, 0), house.wall):
            _draw_windows(easel, place([(p * a, -b, 0.0), (p * a, b, wall)]), house, 3)

    # The roof extends beyond the walls.
    eave, low = 1.12, wall - 0.12 * house.roof_m
    for p in (-1.0, 1.0):
        plane = [
            (p * a * eave, -b * 1.05, low),
            (0, -b * 1.05, top),
            (0, b * 1.05, top),
            (p * a * eave, b * 1.05, low),
        ]
        _draw_face(easel, place(plane), outward(p * house.roof_m, 0, a), house.roof)


def _draw_windows(easel: PaintTarget, ends_m: Image, house: House, count: int) -> None:
    (start, end), storeys = ends_m, max(1, round((house.wall_m - 0.5) / 2.7))
    span = (end - start)[:2]
    middle = (np.arange(count) + 0.5) / count
    low = 1.2 + 2.7 * np.arange(storeys)

    # Half widths of shutters and of the glass, which is painted upon them.
    half = np.array((1.05, 0.5))[:, None, None, None] / np.hypot(*span)
    share = middle[:, None] + half * np.array((-1.0, 1.0, 1.0, -1.0))
    height = low[:, None, None] + np.array((0.0, 0.0, 1.35, 1.35))
    share, height = np.broadcast_arrays(share, height)
    corners = np.concatenate((start[:2] + share[..., None] * span, height[..., None]), axis=-1)

    # Farther away, a window would be less than three pixels high.
    pixels, depth = easel.camera.project(corners.reshape(-1, 3))
    if depth.min() > 60.0:
        return
    panes = pixels.reshape(2, -1, 4, 2)
    for colour, quads in zip((house.shutters, GLASS), panes, strict=True):
        _fill(easel.canvas, quads, easel.tint(colour, depth.mean()))


def _draw_box(easel: PaintTarget, low: Point, size: Point, colours: tuple[Colour, Colour]) -> None:
    (u, v, h), (du, dv, dh) = low, size
    ring = np.array(((u, v), (u + du, v), (u + du, v + dv), (u, v + dv)))
    for index, normal in enumerate(((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))):
        first, second = ring[index], ring[(index + 1) % 4]
        face = np.array(((*first, h), (*second, h), (*second, h + dh), (*first, h + dh)))
        _draw_face(easel, face, normal, colours[0])
    _draw_face(easel, np.column_stack((ring, np.full(4, h + dh))), (0.0, 0.0, 1.0), colours[1])


def draw_car(easel: PaintTarget, position_m: tuple[float, float], colour: Colour) -> None:
    """Paints a car on the road."""
    u, v = position_m
    dark: Colour = (34.0, 36.0, 40.0)
    _draw_box(easel, (u - 0.85, v - 2.0, 0.0), (1.7, 4.0, 0.35), (dark, dark))
    _draw_box(easel, (u - 0.9, v - 2.1, 0.3), (1.8, 4.2, 0.6), (colour, colour))
    _draw_box(easel, (u - 0.75, v - 1.2, 0.9), (1.5, 2.3, 0.5), (dark, colour))


def draw_pole_line(easel: PaintTarget) -> None:
    """Paints the poles along the road, the farthest first, and the wires between them."""
    camera = easel.camera
    kind, u_m, spacing_m, first_m = camera.scene.poles
    if not kind:
        return
    tall_m, colour = (8.2, (178.0, 176.0, 170.0)) if kind == "concrete" else (7.0, (98.0, 78.0, 60.0))
    v_m = first_m + spacing_m * np.arange(-3, 4)
    pixels, depth = camera.project(np.column_stack((np.full(7, u_m), v_m, np.zeros(7))))

    for index in np.argsort(-depth):
        if depth[index] < 2.0 or abs(pixels[index, 0] - camera.focal_px) > 3.0 * camera.px:
            continue
        tint = easel.tint(colour, depth[index]).tolist()
        wide = 0.32 if kind == "concrete" else 0.24
        arms = [((0.0, 0.0), (0.0, tall_m), wide), ((-0.9, tall_m - 0.5), (0.9, tall_m - 0.5), 0.14)]
        if kind == "wood":
            arms = [arms[0], ((-0.5, tall_m - 0.3), (0.5, tall_m - 0.3), 0.12)]
        for (x0, h0), (x1, h1), thick_m in arms:
            ends = np.array(((u_m + x0, v_m[index], h0), (u_m + x1, v_m[index], h1)))
            _draw_line(easel, ends, tint, thick_m * camera.focal_px / depth[index])

        # Wires sag as a parabola between two poles.
        if index + 1 < len(v_m) and depth[index + 1] > 2.0:
            sag = np.linspace(-1, 1, 7)
            wire = np.column_stack(
                (np.full(7, u_m), np.linspace(v_m[index], v_m[index + 1], 7), tall_m - 1.0 + 0.6 * sag**2)
            )
            _draw_line(easel, wire, [60.0, 60.0, 64.0], 1.0)


def _draw_line(easel: PaintTarget, points_m: Image, tint: list[float], thick_px: float) -> None:
    pixels = np.rint(np.clip(easel.camera.project(points_m)[0], -4000, 4000) * 16).astype(np.int32)
    cv2.polylines(easel.canvas, [pixels], False, tint, max(1, round(thick_px)), cv2.LINE_AA, shift=4)
