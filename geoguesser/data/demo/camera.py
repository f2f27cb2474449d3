"""Camera of synthetic views: geometry, haze, noise textures, and the conversion of a canvas to a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from geoguesser.data.demo.scene import Image, Light, Scene

CAMERA_HEIGHT_M = 2.4

# Slopes of noise: soft for clouds, rough for grass, rock and leaves.
CLOUD_EXPONENT, GRAIN_EXPONENT = 1.9, 1.0


@dataclass(frozen=True)
class Camera:
    """Geometry of one view, `px` pixels wide; `turn` is sine and cosine of the heading less the road's bearing."""

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
        """Returns (px,) the tangent of the angle to the right of the heading, for each column."""
        return ((np.arange(self.px) + 0.5) / self.focal_px - 1.0).astype(np.float32)

    def to_view(self, uv_m: Image) -> Image:
        """Returns (..., 2) metres to the right and ahead for (..., 2) u and v."""
        sin, cos = self.sin_cos
        u, v = uv_m[..., 0] - self.scene.lane_m, uv_m[..., 1]
        return np.stack((u * cos - v * sin, u * sin + v * cos), axis=-1)

    def project(self, points_m: Image) -> tuple[Image, Image]:
        """Projects (N, 3) u, v and height in metres to (N, 2) pixels and (N,) depth in metres."""
        right_ahead = self.to_view(points_m[:, :2])
        depth = np.maximum(right_ahead[:, 1], 0.05)
        x = self.focal_px * (1.0 + right_ahead[:, 0] / depth)
        y = self.horizon_px + self.focal_px * (CAMERA_HEIGHT_M - points_m[:, 2]) / depth
        return np.stack((x, y), axis=-1), right_ahead[:, 1]

    def haze(self, distance_m: Any) -> Any:
        """Returns the share of haze, from 0 to 1, in front of an object at a distance."""
        return 1.0 - np.exp(-distance_m / (300.0 * self.scene.visibility_km))


def make_periodic_noise(side: int, slope: float, seed: int) -> Image:
    """Makes (side, side) noise of mean 0 and deviation 1 whose tiles join; `slope` 0 is white, 2 is soft."""
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal((side, side)))

    # Frequencies below four periods per tile are damped: a viewer would recognise the repetition.
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    filtered = np.fft.irfft2(white * np.maximum(frequency, 4.0 / side) ** -slope)
    scaled: Image = (filtered / filtered.std()).astype(np.float32)
    return scaled


@cache
def get_noise_tile(slope: float) -> Image:
    """Returns a (512, 512) tile of `make_periodic_noise`, made once per slope."""
    return make_periodic_noise(512, slope, seed=3)


def sample_texture(scene: Scene, a: Image, b: Image, slope: float = GRAIN_EXPONENT) -> Image:
    """Returns the noise at two coordinates, in pixels of its tile, without interpolation."""
    row = (a + scene.noise_offset_px[0]).astype(np.int32) & 511
    column = (b + scene.noise_offset_px[1]).astype(np.int32) & 511

    # Several times faster than indexing by [row, column].
    values: Image = get_noise_tile(slope).ravel().take((row << 9) | column)
    return values


def to_layer(*colour: float) -> Image:
    """Returns a colour as (3, 1, 1); NumPy blends layers with channels first twice as fast."""
    return np.array(colour, np.float32)[:, None, None]


def blend(target: Image, colour: Image, opacity: Image) -> None:
    """Paints (3, rows, px) colours onto (rows, px, 3) of the canvas, in place."""
    for channel in range(3):
        layer = target[..., channel].astype(np.float32)
        layer += opacity * (colour[channel] - layer)
        target[..., channel] = np.minimum(layer, 255.0)


def apply_camera(canvas: Image, light: Light, rng: np.random.Generator) -> Image:
    """Applies white balance and saturation, tone curve, blur and noise to a canvas."""
    gains = np.array(light.gains) * np.exp(rng.normal(0.0, 0.012, 3))
    grey = np.full((3, 3), (1.0 - light.saturation) / 3.0)
    matrix = gains[:, None] * (grey + light.saturation * np.eye(3))
    developed = cv2.transform(canvas, matrix.astype(np.float32))

    exposure = light.exposure * np.exp(rng.normal(0.0, 0.04))
    tone = 255.0 * np.clip(exposure * np.linspace(0.0, 1.0, 256) ** light.gamma, 0.0, 1.0)
    developed = cv2.LUT(developed, np.rint(tone).astype(np.uint8))

    if (blur := rng.uniform(-0.7, 0.6)) > 0.3:
        developed = cv2.GaussianBlur(developed, (0, 0), blur * canvas.shape[0] / 224.0)

    # A random window of the tile, which continues at its edges.
    row, column = rng.integers(0, 512, 2)
    noise = np.take(get_noise_tile(0.0), np.arange(row, row + len(canvas)) & 511, axis=0)
    noise = np.take(noise, np.arange(column, column + len(canvas)) & 511, axis=1) * np.float32(light.noise)
    grained: Image = cv2.add(developed, cv2.merge((noise, noise, noise)), dtype=cv2.CV_8U)
    return grained
