"""Objects of a synthetic view: trees from sprites; houses, cars and poles as solids."""

from __future__ import annotations

import math
from functools import cache
from typing import NamedTuple

import cv2
import numpy as np

from geoguesser.data.demo.camera import CAMERA_HEIGHT_M, Camera
from geoguesser.data.demo.scene import LEAVES, Colour, House, Image, Tree

# (u, v, height) in metres, as in scene.py, or a direction in the same frame.
Point = tuple[float, float, float]

# Height and width of a sprite, and sprites per kind of tree.
SPRITE = (128, 96)
VARIANTS = 4

# Blobs per ellipse of a crown.
NUM_BLOBS = 130
TRUNK_COLOUR: Colour = (92, 74, 58)
GLASS_COLOUR: Colour = (54, 58, 66)

# By kind of tree: ellipses of the crown (centre x, centre y, radius x, radius y, as fractions of the sprite's
# size), and the radius in pixels of the blobs that fill them. All numbers of the sprites were chosen by eye.
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
    haze_colour: Image

    def tint(self, colour: Colour, distance_m: float, light: float = 1.0) -> Image:
        """Returns (3,) the colour times `light`, mixed with the haze between camera and object."""
        haze = float(self.camera.haze(distance_m))
        return np.array(colour) * (light * (1.0 - haze)) + haze * self.haze_colour


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
        _draw_branches(sprite, np.array((width / 2, height - 4)), angle=-np.pi / 2, length_px=27.0, rng=rng)
    else:
        trunk = 6 if kind in ("oak", "olive", "pine") else 3
        cv2.line(sprite, (width // 2, height - 4), (width // 2, height // 3), (0, 1, 1), trunk)
        _draw_spruce(sprite, rng) if kind == "spruce" else _draw_crown(sprite, kind, rng)

    return cv2.GaussianBlur(sprite, (3, 3), 0)


def _draw_crown(sprite: Image, kind: str, rng: np.random.Generator) -> None:
    """Fills the ellipses of a crown with blobs, the dark ones first and below."""
    height, width = SPRITE
    ellipses, radius = CROWNS[kind]
    blobs = []
    for middle_x, middle_y, radius_x, radius_y in ellipses:
        angle = rng.uniform(0, 2 * np.pi, NUM_BLOBS)
        distance = np.sqrt(rng.random(NUM_BLOBS)) * rng.uniform(0.85, 1.05)
        x, y = distance * np.cos(angle), distance * np.sin(angle)
        light = 0.85 - 0.22 * x - 0.3 * y + rng.normal(0, 0.1, NUM_BLOBS)
        blobs.append(
            np.column_stack(((middle_x + radius_x * x) * width, (middle_y + radius_y * y) * height, light))
        )

    crown = np.concatenate(blobs)
    for x, y, light in crown[np.argsort(crown[:, 2] + rng.normal(0, 0.12, len(crown)))]:
        size = max(1, int(radius * rng.uniform(0.6, 1.1)))
        cv2.circle(sprite, (int(x), int(y)), size, (float(np.clip(light, 0.4, 1.4)), 0, 1), -1)


def _draw_spruce(sprite: Image, rng: np.random.Generator) -> None:
    """Draws 11 tiers, each of a light and a dark triangle."""
    height, width = SPRITE
    tiers = 11
    for tier in range(tiers, 0, -1):
        top, foot = height * (0.04 + 0.78 * (tier - 1) / tiers), height * (0.1 + 0.82 * tier / tiers)
        half_width = width * (0.07 + 0.32 * tier / tiers) * rng.uniform(0.85, 1.1)
        for side, light in ((-1, 1.1), (1, 0.72)):
            corners = [(width / 2, top), (width / 2 + side * half_width, foot), (width / 2, foot - 3)]
            shade = light * rng.uniform(0.85, 1.1)
            cv2.fillConvexPoly(sprite, np.array(corners).astype(np.int32), (shade, 0, 1))


def _draw_branches(sprite: Image, start: Image, angle: float, length_px: float, rng: np.random.Generator) -> None:
    end = start + length_px * np.array((np.cos(angle), np.sin(angle)))
    light = 1.1 - 0.2 * np.cos(angle)
    ends = np.stack((start, end)).astype(int).tolist()
    cv2.line(sprite, ends[0], ends[1], (0, light, 1), max(1, round(0.006 * length_px**2)))
    if length_px > 7:
        for turn in (-0.5, 0.05, 0.5):
            bend = turn + float(rng.normal(0, 0.15))
            _draw_branches(sprite, end, angle + bend, length_px * float(rng.uniform(0.6, 0.78)), rng)


@cache
def _shrink_sprite(kind: str, variant: int, halvings: int) -> Image:
    """Returns a sprite at 1, 1/2, 1/4 or 1/8 of its size. Resizing a small sprite is faster."""
    size = (SPRITE[1] >> halvings, SPRITE[0] >> halvings)
    return cv2.resize(make_tree_sprite(kind, variant), size, interpolation=cv2.INTER_AREA)


def draw_tree(target: PaintTarget, tree: Tree, foot_px: Image, depth_m: float) -> None:
    """Paints a tree that stands at (2,) `foot_px` in the image, `depth_m` metres away."""
    canvas, camera, haze_colour = target
    height_px = camera.focal_px * tree.height_m / depth_m
    height, width = int(height_px), int(height_px * SPRITE[1] / SPRITE[0])
    left, top = int(foot_px[0] - width / 2), int(foot_px[1] - height)
    rows = slice(max(top, 0), min(top + height, camera.px))
    columns = slice(max(left, 0), min(left + width, camera.px))
    if height < 5 or rows.start >= rows.stop or columns.start >= columns.stop:
        return

    halvings = min(max(int(math.log2(SPRITE[0] / height)), 0), 3)
    # The variant follows from the position, so that it is the same in all four views.
    sprite = _shrink_sprite(tree.kind, int(abs(tree.v_m) * 8) % VARIANTS, halvings)
    small = cv2.resize(sprite, (width, height), interpolation=cv2.INTER_LINEAR)
    part = small[rows.start - top : rows.stop - top, columns.start - left : columns.stop - left]

    # One matrix turns brightness of leaves, brightness of wood and opacity into a colour with haze.
    haze = float(camera.haze(depth_m))
    leaves, wood = np.array(tree.colour), np.array(tree.colour if tree.kind == "bare" else TRUNK_COLOUR)
    mixing = np.column_stack((leaves * (1.0 - haze), wood * (1.0 - haze), haze * haze_colour))
    area = canvas[rows, columns]
    area[:] = np.minimum(area * (1.0 - part[..., 2:]) + cv2.transform(part, mixing.astype(np.float32)), 255.0)


def _draw_face(target: PaintTarget, corners_m: Image, outward: Point, colour: Colour) -> bool:
    """Paints a face, (K, 3) u, v and height, and returns True, if it faces the camera from at least 1.5 m."""
    camera = target.camera
    u, v, up = corners_m[0].tolist()

    # Dot product of the normal with the vector from the face to the camera at (lane_m, 0, CAMERA_HEIGHT_M).
    if outward[0] * (camera.scene.lane_m - u) - outward[1] * v + outward[2] * (CAMERA_HEIGHT_M - up) <= 0.0:
        return False

    pixels, depth = camera.project(corners_m)
    if depth.min() < 1.5:
        return False
    _fill(target.canvas, pixels[None], target.tint(colour, depth.mean(), _compute_light(camera, outward)))
    return True


def _compute_light(camera: Camera, outward: Point) -> float:
    scene = camera.scene
    bearing, rise = math.radians(scene.sun_deg - scene.road_deg), math.radians(scene.sun_height_deg)
    sun = (math.sin(bearing) * math.cos(rise), math.cos(bearing) * math.cos(rise), math.sin(rise))
    facing = sum(a * b for a, b in zip(outward, sun, strict=True)) / math.hypot(*outward)
    # Chosen by eye: 0.55 is the share of sunlight under a clear sky, and a face in the shade gets the other light.
    direct = 0.55 * (1.0 - 0.75 * scene.cloud)
    return 1.02 - 0.75 * direct + direct * max(facing, -0.1)


def _fill(canvas: Image, pixels: Image, tint: Image) -> None:
    """Fills convex shapes, (N, K, 2) corners in pixels."""
    colour = np.clip(tint, 0, 255).tolist()
    for shape in _to_fixed_point(pixels):
        cv2.fillConvexPoly(canvas, shape, colour, cv2.LINE_AA, shift=4)


def _to_fixed_point(pixels: Image) -> Image:
    """Converts pixels for `shift=4` of OpenCV: 4 fractional bits; the limit avoids an overflow."""
    return np.rint(np.clip(pixels, -4000, 4000) * 16).astype(np.int32)


def draw_house(target: PaintTarget, house: House) -> None:
    """Paints a house with a gabled roof, windows and shutters."""
    a, b, wall, top = house.half_width_m, house.half_length_m, house.wall_m, house.wall_m + house.roof_m

    # Corners are (across, along, up) in metres, relative to the ridge of the roof.
    def to_scene(corners: list[tuple[float, float, float]]) -> Image:
        local = np.array(corners)
        turned = local[:, [1, 0, 2]] if house.ridge_across else local
        return turned + np.array((house.u_m, house.v_m, 0.0))

    def get_normal(across: float, along: float, up: float) -> Point:
        return (along, across, up) if house.ridge_across else (across, along, up)

    for sign in (-1.0, 1.0):
        y = sign * b
        gable = [(-a, y, 0.0), (-a, y, wall), (0.0, y, top), (a, y, wall), (a, y, 0.0)]
        if _draw_face(target, to_scene(gable), get_normal(0, sign, 0), house.wall):
            _draw_windows(target, to_scene([(-a, y, 0.0), (a, y, wall)]), house, 2)
    for sign in (-1.0, 1.0):
        x = sign * a
        side = [(x, -b, 0.0), (x, -b, wall), (x, b, wall), (x, b, 0.0)]
        if _draw_face(target, to_scene(side), get_normal(sign, 0, 0), house.wall):
            _draw_windows(target, to_scene([(x, -b, 0.0), (x, b, wall)]), house, 3)

    # The roof extends beyond the walls, by 12 % of the width and 5 % of the length.
    low, y = wall - 0.12 * house.roof_m, b * 1.05
    for sign in (-1.0, 1.0):
        x = sign * a * 1.12
        plane = [(x, -y, low), (0, -y, top), (0, y, top), (x, y, low)]
        _draw_face(target, to_scene(plane), get_normal(sign * house.roof_m, 0, a), house.roof)


def _draw_windows(target: PaintTarget, corners_m: Image, house: House, count: int) -> None:
    (start, end), storeys = corners_m, max(1, round((house.wall_m - 0.5) / 2.7))
    span = (end - start)[:2]
    middle = (np.arange(count) + 0.5) / count
    low = 1.2 + 2.7 * np.arange(storeys)

    # Half widths of shutters and of the glass, which is painted upon them.
    half = np.array((1.05, 0.5))[:, None, None, None] / np.hypot(*span)
    share = middle[:, None] + half * np.array((-1.0, 1.0, 1.0, -1.0))
    height = low[:, None, None] + np.array((0.0, 0.0, 1.35, 1.35))
    share, height = np.broadcast_arrays(share, height)
    corners = np.concatenate((start[:2] + share[..., None] * span, height[..., None]), axis=-1)

    # At more than 60 m a window is less than three pixels high in a view of 256 px.
    pixels, depth = target.camera.project(corners.reshape(-1, 3))
    if depth.min() > 60.0:
        return
    panes = pixels.reshape(2, -1, 4, 2)
    for colour, quads in zip((house.shutters, GLASS_COLOUR), panes, strict=True):
        _fill(target.canvas, quads, target.tint(colour, depth.mean()))


def _draw_box(target: PaintTarget, low: Point, size: Point, colours: tuple[Colour, Colour]) -> None:
    (u, v, h), (du, dv, dh) = low, size
    ring = np.array(((u, v), (u + du, v), (u + du, v + dv), (u, v + dv)))
    for index, normal in enumerate(((0.0, -1.0, 0.0), (1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (-1.0, 0.0, 0.0))):
        first, second = ring[index], ring[(index + 1) % 4]
        face = np.array(((*first, h), (*second, h), (*second, h + dh), (*first, h + dh)))
        _draw_face(target, face, normal, colours[0])
    _draw_face(target, np.column_stack((ring, np.full(4, h + dh))), (0.0, 0.0, 1.0), colours[1])


def draw_car(target: PaintTarget, position_m: tuple[float, float], colour: Colour) -> None:
    """Paints a car on the road."""
    u, v = position_m
    dark: Colour = (34.0, 36.0, 40.0)
    _draw_box(target, (u - 0.85, v - 2.0, 0.0), (1.7, 4.0, 0.35), (dark, dark))
    _draw_box(target, (u - 0.9, v - 2.1, 0.3), (1.8, 4.2, 0.6), (colour, colour))
    _draw_box(target, (u - 0.75, v - 1.2, 0.9), (1.5, 2.3, 0.5), (dark, colour))


def draw_pole_line(target: PaintTarget) -> None:
    """Paints the poles along the road, the farthest first, and the wires between them."""
    camera = target.camera
    kind, u_m, spacing_m, first_m = camera.scene.poles
    if not kind:
        return

    # Height and width of a pole; half length, distance from the top and width of its crossbar.
    height_m, width_m, bar_m, below_m, bar_width_m = 7.0, 0.24, 0.5, 0.3, 0.12
    colour = (98.0, 78.0, 60.0)
    if kind == "concrete":
        height_m, width_m, bar_m, below_m, bar_width_m = 8.2, 0.32, 0.9, 0.5, 0.14
        colour = (178.0, 176.0, 170.0)
    v_m = first_m + spacing_m * np.arange(-3, 4)
    pixels, depth = camera.project(np.column_stack((np.full_like(v_m, u_m), v_m, np.zeros_like(v_m))))

    for index in np.argsort(-depth):
        # Poles behind the camera or far outside the image.
        if depth[index] < 2.0 or abs(pixels[index, 0] - camera.focal_px) > 3.0 * camera.px:
            continue

        tint, v, px_per_m = target.tint(colour, depth[index]).tolist(), v_m[index], camera.focal_px / depth[index]
        _draw_line(target, np.array(((u_m, v, 0.0), (u_m, v, height_m))), tint, width_m * px_per_m)
        bar_height_m = height_m - below_m
        crossbar = np.array(((u_m - bar_m, v, bar_height_m), (u_m + bar_m, v, bar_height_m)))
        _draw_line(target, crossbar, tint, bar_width_m * px_per_m)

        # Wires sag as a parabola between two poles.
        if index + 1 < len(v_m) and depth[index + 1] > 2.0:
            sag = np.linspace(-1, 1, 7)
            height = height_m - 1.0 + 0.6 * sag**2
            wire = np.column_stack((np.full(7, u_m), np.linspace(v, v_m[index + 1], 7), height))
            _draw_line(target, wire, [60.0, 60.0, 64.0], 1.0)


def _draw_line(target: PaintTarget, points_m: Image, tint: list[float], thick_px: float) -> None:
    pixels = _to_fixed_point(target.camera.project(points_m)[0])
    cv2.polylines(target.canvas, [pixels], False, tint, max(1, round(thick_px)), cv2.LINE_AA, shift=4)
