"""Renders the views of a synthetic place, 90 degrees wide, from far to near on one canvas, with haze.

Lengths are in metres, positions in the frame of the road (see `scene.py`), and colours in RGB from 0 to 255.
"""

from __future__ import annotations

import math

import cv2
import numpy as np

from geoguesser.data.demo.camera import (
    CAMERA_HEIGHT_M,
    CLOUD_EXPONENT,
    Camera,
    apply_camera,
    blend,
    sample_texture,
    to_layer,
)
from geoguesser.data.demo.objects import PaintTarget, draw_car, draw_house, draw_pole_line, draw_tree
from geoguesser.data.demo.scene import Colour, Field, Horizon, Image, Scene, Strip

# As in place_files.py, whose imports would delay the start of a worker process.
HEADINGS = (0, 90, 180, 270)

# Bearings of the horizon over the width of a view.
NUM_BEARINGS = 57

# Relief is drawn steeper than it is: most of it would otherwise be two pixels high.
RELIEF_SCALE = 3.2
SEA: Colour = (52, 104, 138)


def compute_bearings(heading_deg: float) -> Image:
    """Returns (NUM_BEARINGS,) bearings in degrees over the width of a view, equally spaced in the image."""
    return heading_deg + np.degrees(np.arctan(np.linspace(-1.0, 1.0, NUM_BEARINGS)))


def render_view(scene: Scene, horizon: Horizon, heading_deg: float, px: int, rng: np.random.Generator) -> Image:
    """Renders one view, (px, px, 3) uint8 in RGB; `horizon` is along `compute_bearings(heading_deg)`."""
    horizon_px = px * (0.5 + float(np.clip(rng.normal(0.0, 0.025), -0.06, 0.06)))
    turn = math.radians(heading_deg - scene.road_deg)
    camera = Camera(px, horizon_px, (math.sin(turn), math.cos(turn)), heading_deg, scene)

    canvas = np.zeros((px, px, 3), np.uint8)
    air = _draw_sky(canvas, camera)
    _draw_relief(canvas, camera, horizon, air)
    _draw_ground(canvas, camera, air)
    _draw_sea(canvas, camera, horizon, air)
    _draw_things(canvas, camera, air)
    return apply_camera(canvas, scene.light, rng)


def _draw_sky(canvas: Image, camera: Camera) -> Image:
    """Paints the sky, and returns (3, 1, px) its colour at the horizon, which is the colour of haze."""
    scene, rows = camera.scene, int(camera.horizon_px) + 1

    # The sky is smooth, so that half the columns and rows are sufficient.
    across = camera.column_tangents()[::2]
    rise = ((camera.horizon_px - np.linspace(0, rows, rows // 2 + 1)) / camera.focal_px).astype(np.float32)[
        :, None
    ]

    sun = math.radians((camera.heading_deg - scene.sun_deg + 180.0) % 360.0 - 180.0)
    from_sun = sun + np.arctan(across)
    side = np.cos(from_sun)
    up = np.arctan(rise) - math.radians(scene.sun_height_deg)
    glow = np.exp(-(from_sun**2) / 0.3) * np.exp(-(up**2) / 0.3)

    blue = np.clip(rise, 0.0, 1.0) ** 0.7 * (0.85 - 0.15 * side)
    veil = min(1.0, max(scene.cloud - 0.6, 0.0) * 1.6 + math.exp(-scene.visibility_km / 10.0))
    low, high = to_layer(186, 203, 219), to_layer(72, 118, 176)
    sky = low + blue * (1.0 - veil) * (high - low)
    grey = to_layer(224, 227, 231) * (1.0 - 0.5 * max(scene.cloud - 0.5, 0.0))
    sky += _compute_clouds(camera, rise, across) * np.clip(rise * 5.0, 0.3, 1.0) * (grey - sky)
    sky *= 1.0 + 0.16 * side
    sky += glow * (to_layer(105, 98, 80) * (1.0 - 0.6 * scene.cloud))

    whole = cv2.resize(cv2.merge(list(np.minimum(sky, 255.0))), (camera.px, rows), interpolation=cv2.INTER_LINEAR)
    canvas[:rows] = whole
    return np.minimum(whole[-1].T[:, None], 245.0)


def _compute_clouds(camera: Camera, rise: Image, across: Image) -> Image:
    """Returns (rows, px) the opacity of a flat layer of clouds in perspective, which turns with the heading."""
    ahead = 70.0 / (np.maximum(rise, 0.0) + 0.25)
    right = ahead * across
    turn = math.radians(camera.heading_deg)
    sin, cos = math.sin(turn), math.cos(turn)
    rows, columns = ahead * cos - right * sin + 256, ahead * sin + right * cos + 256
    noise = sample_texture(camera.scene, rows, columns, CLOUD_EXPONENT)
    return np.clip((noise - 1.7 + 3.8 * camera.scene.cloud) * 0.6, 0.0, 1.0)


def _draw_relief(canvas: Image, camera: Camera, horizon: Horizon, air: Image) -> None:
    scene, px, base = camera.scene, camera.px, int(camera.horizon_px) + 1
    columns = np.arange(px, dtype=np.float32)
    for band in (2, 1, 0):
        angle, away_km = _interpolate(horizon.relief_rad[band], px), _interpolate(horizon.distance_km[band], px)
        height = px * 0.3 * np.tanh(RELIEF_SCALE * angle * 0.5 / 0.3)
        ridge = columns * (160.0 / px) + 300.0 * camera.heading_deg
        height *= 1.0 + 0.05 * sample_texture(scene, np.full(px, 40.0 * band), ridge, CLOUD_EXPONENT)
        if height.max() < 0.5:
            continue

        top = max(int(camera.horizon_px - height.max()), 0)
        up = (camera.horizon_px - np.arange(top, base, dtype=np.float32))[:, None]
        noise = sample_texture(scene, up * (300.0 / px) + 90.0 * band, columns[None] * (224.0 / px))
        rocky = scene.rocky_relief * np.clip(0.5 * noise + up * (2.2 / px) + 0.1, 0.0, 0.85)
        rocky = np.maximum(rocky, scene.snow * np.clip(up * (6.0 / px) - 0.4 + 0.3 * noise, 0.0, 0.9))
        tint = to_layer(*scene.relief) * (1.0 + 0.1 * noise)
        tint += rocky * (to_layer(*scene.rock) - tint)
        tint += np.maximum(camera.haze(1000.0 * away_km), (0.0, 0.15, 0.4)[band]) * (air - tint)
        blend(canvas[top:base], tint, np.clip(height - up + 0.5, 0.0, 1.0) * (height > 0.4))


def _interpolate(values: Image, px: int) -> Image:
    positions = np.linspace(0.0, NUM_BEARINGS - 1.0, px)
    return np.interp(positions, np.arange(NUM_BEARINGS), values).astype(np.float32)


def _draw_ground(canvas: Image, camera: Camera, air: Image) -> None:
    scene, top = camera.scene, int(np.ceil(camera.horizon_px))

    # A row at y below the horizon shows the ground at depth eye height * focal length / y.
    depth = CAMERA_HEIGHT_M * camera.focal_px / (np.arange(top, camera.px) + 0.5 - camera.horizon_px)
    depth = np.minimum(np.maximum(depth, 0.0), 900.0).astype(np.float32)[:, None]
    right = depth * camera.column_tangents()
    sin, cos = camera.sin_cos
    u, v = scene.lane_m + depth * sin + right * cos, depth * cos - right * sin

    fine = sample_texture(scene, u * 18.0, v * 18.0) / (1.0 + depth / 12.0)
    broad = sample_texture(scene, u * 1.7 + 99, v * 1.7) / (1.0 + depth / 120.0)

    # The colour of a pixel is the mean of the colours that cover it, weighted by their shares.
    shares, colours = _mix_ground_cover(scene, u, v, depth, (fine, broad))
    mixing = np.array(colours, np.float32).T
    ground = (mixing @ np.stack(shares).reshape(len(shares), -1)).reshape(3, *u.shape)
    ground *= 1.0 + 0.09 * fine + 0.05 * broad
    ground += camera.haze(depth) * (air - ground)
    canvas[top:] = cv2.merge(list(np.clip(ground, 0.0, 255.0)))


def _mix_ground_cover(
    scene: Scene, u: Image, v: Image, depth: Image, noise: tuple[Image, Image]
) -> tuple[list[Image], list[Colour]]:
    """Returns the (rows, px) share of each cover of the ground, which add to one, and their colours."""
    beside = np.abs(u) - scene.road_half_m

    # The edge of a plane is as soft as a pixel is wide at its depth.
    pixel_m = depth * (2.0 / 224.0)
    road = np.clip(0.5 - beside / pixel_m, 0.0, 1.0)
    field = np.clip((beside - 2.2 - 0.5 * noise[1]) / (pixel_m + 0.4), 0.0, 1.0) * (1.0 - road)
    shares: list[Image] = []
    colours: list[Colour] = []
    for on_side, side in ((u <= 0, scene.left), (u > 0, scene.right)):
        if not on_side.any():
            continue
        plants, rock, soil = _compute_field_shares(side, u, pixel_m, noise)
        area = on_side * field
        shares += [area * plants, area * rock, area * soil]
        colours += [side.plants, scene.rock, side.soil]

    mark = np.zeros_like(u)
    if scene.centre_line:
        mark = np.clip(0.5 + (0.09 - np.abs(u)) / pixel_m, 0.0, 1.0) * ((v.astype(np.int32) & 7) < 4)
    if scene.edge_line:
        mark = np.maximum(mark, np.clip(0.5 + (0.09 - np.abs(beside + 0.3)) / pixel_m, 0.0, 1.0))
    shares += [road * (1.0 - mark), road * mark, (1.0 - road) * (1.0 - field)]
    colours += [scene.road, (226.0, 226.0, 222.0), scene.grass]
    return shares, colours


def _compute_field_shares(
    field: Field, u: Image, pixel_m: Image, noise: tuple[Image, Image]
) -> tuple[Image, Image, Image]:
    """Returns the shares of plants, rock and soil in a field; rows too narrow for a pixel become uniform."""
    fine, broad = noise
    rock = np.clip((broad + 0.7 * fine - 1.5 + 1.9 * field.rock) * 2.0, 0.0, 1.0) * min(1.0, 3.0 * field.rock)
    if field.spacing_m:
        sharp = np.exp(-((2.0 * pixel_m / field.spacing_m) ** 2))
        row = 0.6 + 0.4 * sharp * np.clip(3.0 * np.sin(2.0 * np.pi / field.spacing_m * u), -1.0, 1.0)
    else:
        bare = np.clip(broad + 0.5 * fine - 1.6 + 2.2 * field.patches, 0.0, 1.0) * 0.75
        row = np.clip(1.0 - bare - 0.45 * field.rock, 0.0, 1.0)
    return (1.0 - rock) * row, rock, (1.0 - rock) * (1.0 - row)


def _draw_sea(canvas: Image, camera: Camera, horizon: Horizon, air: Image) -> None:
    if not np.isfinite(horizon.sea_km).any():
        return
    px, top = camera.px, int(np.ceil(camera.horizon_px))
    depth = np.where(np.isfinite(horizon.sea_km), px * (0.012 + 0.13 / (1.0 + horizon.sea_km / 1.3)), 0.0)
    depth = _interpolate(depth, px)

    below = (np.arange(top, min(top + int(depth.max()) + 2, px), dtype=np.float32) - camera.horizon_px)[:, None]
    waves = sample_texture(camera.scene, 900.0 / (below + 1.0), np.arange(px)[None] * 60.0 / px)
    tint = to_layer(*SEA) + (0.25 - 0.15 * below / max(float(depth.max()), 1.0)) * (air - to_layer(*SEA))
    tint *= 1.0 + 0.06 * waves
    distance_m = 1000.0 * np.where(depth > 0, 1.0 / np.maximum(depth / px, 0.02) * 0.13, 0.0)
    tint += camera.haze(distance_m) * (air - tint)
    blend(canvas[top : top + len(below)], tint, np.clip(depth - below + 0.5, 0.0, 1.0) * (depth > 0.5))


def _draw_things(canvas: Image, camera: Camera, air: Image) -> None:
    scene = camera.scene
    far = [strip for strip in scene.strips if strip.height_m > 2.0]
    for strip in sorted(far, key=lambda strip: -abs(strip.u_m)):
        _draw_strip(canvas, camera, strip, air)

    target = PaintTarget(canvas, camera, air.mean(axis=(1, 2)))
    feet = [(tree.u_m, tree.v_m, 0.0) for tree in scene.trees]
    feet += [(house.u_m, house.v_m, 0.0) for house in scene.houses]
    pixels, depth = camera.project(np.array(feet).reshape(-1, 3))
    offset = np.abs(pixels[:, 0] / camera.px - 0.5) * 2.0
    visible = np.flatnonzero((depth > 3.0) & (offset < 1.0 + 8.0 / np.maximum(depth, 1.0)))
    for index in visible[np.argsort(-depth[visible])]:
        if index < len(scene.trees):
            draw_tree(target, scene.trees[index], pixels[index], float(depth[index]))
        else:
            draw_house(target, scene.houses[index - len(scene.trees)])

    for strip in scene.strips:
        if strip.height_m <= 2.0:
            _draw_strip(canvas, camera, strip, air)
    draw_pole_line(target)
    for u_m, v_m, colour in scene.cars:
        draw_car(target, (u_m, v_m), colour)


def _draw_strip(canvas: Image, camera: Camera, strip: Strip, air: Image) -> None:
    scene, across = camera.scene, camera.column_tangents()

    # The ray of a column meets the surface u = const at this depth, if it points towards it.
    sin, cos = camera.sin_cos
    with np.errstate(divide="ignore"):
        depth = (strip.u_m - scene.lane_m) / (sin + across * cos)
    hit = (depth > 1.0) & (depth < 700.0)
    if not hit.any():
        return
    depth = np.where(hit, depth, 700.0)
    along = depth * (cos - across * sin)
    height = strip.height_m * _compute_profile(scene, strip.kind, along)
    bottom = camera.horizon_px + camera.focal_px * CAMERA_HEIGHT_M / depth
    top = camera.horizon_px - camera.focal_px * (height - CAMERA_HEIGHT_M) / depth
    first, last = max(int(top[hit].min()), 0), min(int(bottom[hit].max()) + 2, camera.px)
    rows = np.arange(first, last)[:, None]
    if not len(rows):
        return

    above_m = CAMERA_HEIGHT_M - (rows - camera.horizon_px).astype(np.float32) * (depth / camera.focal_px)
    scale = 5.0 if strip.height_m > 2.0 else 18.0
    noise = sample_texture(scene, above_m * scale, along * scale) / (1.0 + depth * scale / 900.0)
    contrast = 0.3 if strip.kind == "stones" else 0.2
    light = 0.62 + 0.45 * np.clip(above_m / strip.height_m, 0.0, 1.0) + contrast * noise
    tint = light * to_layer(*strip.colour)
    tint += camera.haze(depth) * (air - tint)
    opacity = np.clip(rows - top + 0.5, 0.0, 1.0) * np.clip(bottom - rows + 0.5, 0.0, 1.0) * hit
    blend(canvas[first:last], tint, opacity * _compute_gaps(strip, along, above_m, depth, noise))


def _compute_profile(scene: Scene, kind: str, along_m: Image) -> Image:
    noise = sample_texture(scene, np.full_like(along_m, 7.0), along_m * 0.9)
    if kind == "spruce":
        return 0.62 + 0.3 * np.abs(along_m / 4.0 % 1.0 * 2.0 - 1.0) ** 1.3 + 0.1 * noise
    if kind in ("oak", "bare"):
        return 0.68 + 0.2 * np.abs(np.sin(along_m / 3.3)) + 0.1 * noise
    return 1.0 + 0.05 * noise


def _compute_gaps(strip: Strip, along_m: Image, above_m: Image, depth: Image, noise: Image) -> Image:
    if strip.kind == "pickets":
        rail = np.abs(above_m / strip.height_m - 0.6) < 0.08
        return np.where(depth > 14.0, 0.75, np.maximum((along_m % 0.32) < 0.2, rail))
    if strip.kind == "bare":
        return np.clip(0.95 - 0.75 * above_m / strip.height_m + 0.2 * noise, 0.15, 1.0)
    return np.ones_like(above_m)
