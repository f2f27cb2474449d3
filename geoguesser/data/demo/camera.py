"""Camera of synthetic views: geometry, haze, noise textures, and the conversion of a canvas to a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from geoguesser.data.demo.scene import Image, Light, Scene

# Height above the road.
CAMERA_HEIGHT_M = 2.4

# Height and width of a tile of noise, in the pixels of the tile.
TILE_PX = 512

# Spectral exponents of `get_noise_tile`: soft noise for clouds, rough noise for grass, rock and leaves.
CLOUD_EXPONENT, GRAIN_EXPONENT = 1.9, 1.0


@dataclass(frozen=True)
class Camera:
    """Geometry of one view, `px` pixels wide; `sin_cos` are those of the angle from the road to the heading."""

    px: int
    horizon_px: float
    sin_cos: tuple[float, float]
    heading_deg: float
    scene: Scene

    @property
    def focal_px(self) -> float:
        # A view is 90 degrees wide: px / 2 = focal * tan(45 degrees).
        return self.px / 2.0

    def column_tangents(self) -> Image:
        """Returns (px,) the tangent of the angle from the heading to each column, positive to the right."""
        return ((np.arange(self.px) + 0.5) / self.focal_px - 1.0).astype(np.float32)

    def to_view(self, uv_m: Image) -> Image:
        """Converts (..., 2) u and v (scene.py) to metres to the right of the camera and ahead of it."""
        sin, cos = self.sin_cos
        u, v = uv_m[..., 0] - self.scene.lane_m, uv_m[..., 1]
        return np.stack((u * cos - v * sin, u * sin + v * cos), axis=-1)

    def project(self, points_m: Image) -> tuple[Image, Image]:
        """Projects (N, 3) u, v and height in metres to (N, 2) pixels and (N,) depth in metres."""
        right_ahead = self.to_view(points_m[:, :2])

        # Points behind the camera are projected as if 5 cm ahead; the returned depth shows where they are.
        depth = np.maximum(right_ahead[:, 1], 0.05)
        x = self.focal_px * (1.0 + right_ahead[:, 0] / depth)
        y = self.horizon_px + self.focal_px * (CAMERA_HEIGHT_M - points_m[:, 2]) / depth
        return np.stack((x, y), axis=-1), right_ahead[:, 1]

    def haze(self, distance_m: Any) -> Any:
        """Returns the share of haze, from 0 to 1, in front of an object at a distance."""
        # Exponential extinction, as in Koschmieder's law. The scale of 300 m per km of visibility was chosen by
        # eye: it equals exp(-3.3) at that visibility.
        return 1.0 - np.exp(-distance_m / (300.0 * self.scene.visibility_km))


@cache
def get_noise_tile(exponent: float) -> Image:
    """Makes (TILE_PX, TILE_PX) periodic noise, mean 0 and deviation 1, with amplitudes frequency ** -exponent."""
    white = np.fft.rfft2(np.random.default_rng(3).standard_normal((TILE_PX, TILE_PX)))

    # Frequencies below four periods per tile are damped, because large shapes make the repetition visible.
    frequency = np.hypot(np.fft.fftfreq(TILE_PX)[:, None], np.fft.rfftfreq(TILE_PX)[None])
    frequency[0, 0] = np.inf
    filtered = np.fft.irfft2(white * np.maximum(frequency, 4.0 / TILE_PX) ** -exponent)
    return (filtered / filtered.std()).astype(np.float32)


def sample_texture(scene: Scene, rows: Image, columns: Image, exponent: float = GRAIN_EXPONENT) -> Image:
    """Samples the noise at rows and columns in pixels of its tile, which repeats; without interpolation."""
    rows = (rows + scene.noise_offset_px[0]).astype(np.int32) % TILE_PX
    columns = (columns + scene.noise_offset_px[1]).astype(np.int32) % TILE_PX

    # Several times faster than indexing by [rows, columns].
    return get_noise_tile(exponent).ravel().take(rows * TILE_PX + columns)


def to_layer(*colour: float) -> Image:
    """Returns a colour as (3, 1, 1); NumPy blends layers with channels first twice as fast."""
    return np.array(colour, np.float32)[:, None, None]


def blend(target: Image, colour: Image, opacity: Image) -> None:
    """Paints (3, rows, px) colours onto (rows, px, 3) of the canvas, in place; `opacity` is (rows, px), 0 to 1."""
    for channel in range(3):
        layer = target[..., channel].astype(np.float32)
        layer += opacity * (colour[channel] - layer)
        target[..., channel] = np.minimum(layer, 255.0)


def apply_camera(canvas: Image, light: Light, rng: np.random.Generator) -> Image:
    """Applies white balance and saturation, tone curve, blur and noise to a canvas."""
    # Deviations of the gains (1.2 %) and of the exposure (4 %) between views were chosen by eye.
    gains = np.array(light.gains) * np.exp(rng.normal(0.0, 0.012, 3))
    grey = np.full((3, 3), (1.0 - light.saturation) / 3.0)
    matrix = gains[:, None] * (grey + light.saturation * np.eye(3))
    developed = cv2.transform(canvas, matrix.astype(np.float32))

    exposure = light.exposure * np.exp(rng.normal(0.0, 0.04))
    tone = 255.0 * np.clip(exposure * np.linspace(0.0, 1.0, 256) ** light.gamma, 0.0, 1.0)
    developed = cv2.LUT(developed, np.rint(tone).astype(np.uint8))

    # Blurs 23 % of the views, with a standard deviation of 0.3 to 0.6 pixels at 224 px.
    if (blur := rng.uniform(-0.7, 0.6)) > 0.3:
        developed = cv2.GaussianBlur(developed, (0, 0), blur * canvas.shape[0] / 224.0)

    # A random window of the noise tile, wrapped around at its edges.
    row, column = rng.integers(0, TILE_PX, 2)
    noise = np.take(get_noise_tile(0.0), np.arange(row, row + len(canvas)) % TILE_PX, axis=0)
    noise = np.take(noise, np.arange(column, column + len(canvas)) % TILE_PX, axis=1) * np.float32(light.noise)
    return cv2.add(developed, cv2.merge((noise, noise, noise)), dtype=cv2.CV_8U)
