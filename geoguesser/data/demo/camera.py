"""The camera of synthetic views: geometry, haze, noise textures, and how a canvas becomes a photograph."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Any

import cv2
import numpy as np

from geoguesser.data.demo.scene import Image, Light, Scene

EYE_M = 2.4
CLOUD, GRAIN = 1.9, 1.0  # slopes of noise: soft for clouds, rough for grass, rock and leaves


@dataclass(frozen=True)
class Camera:
    """One view's geometry.

    Attributes:
        px: Side of the image.
        horizon_px: Row of the horizon.
        turn: Sine and cosine of the heading less the road's bearing.
        heading_deg: Heading.
        scene: What is looked at.
    """

    px: int
    horizon_px: float
    turn: tuple[float, float]
    heading_deg: float
    scene: Scene

    @property
    def focal_px(self) -> float:
        return self.px / 2.0  # 90 degrees across

    def across(self) -> Image:
        """(px,) tangent of the angle to the right of the heading, for each column."""
        return ((np.arange(self.px) + 0.5) / self.focal_px - 1.0).astype(np.float32)

    def to_view(self, uv_m: Image) -> Image:
        """(..., 2) to the right and ahead in metres, from (..., 2) u and v."""
        sin, cos = self.turn
        u, v = uv_m[..., 0] - self.scene.lane_m, uv_m[..., 1]
        return np.stack((u * cos - v * sin, u * sin + v * cos), axis=-1)

    def project(self, points_m: Image) -> tuple[Image, Image]:
        """(N, 2) pixels and (N,) depth in metres, from (N, 3) u, v and height."""
        seen = self.to_view(points_m[:, :2])
        depth = np.maximum(seen[:, 1], 0.05)
        x = self.focal_px * (1.0 + seen[:, 0] / depth)
        y = self.horizon_px + self.focal_px * (EYE_M - points_m[:, 2]) / depth
        return np.stack((x, y), axis=-1), seen[:, 1]

    def haze(self, distance_m: Any) -> Any:
        """The share of haze, from 0 to 1, before something so far away."""
        return 1.0 - np.exp(-distance_m / (300.0 * self.scene.visibility_km))


def periodic_noise(side: int, slope: float, seed: int) -> Image:
    """Makes noise whose tiles join without a seam: white noise, filtered in the frequency domain.

    Args:
        side: Height and width.
        slope: Amplitude falls as frequency to the power of -slope: 0 is white, 2 is soft as clouds.
        seed: Of the noise.

    Returns:
        (side, side) float32 of mean 0 and deviation 1.
    """
    white = np.fft.rfft2(np.random.default_rng(seed).standard_normal((side, side)))
    frequency = np.hypot(np.fft.fftfreq(side)[:, None], np.fft.rfftfreq(side)[None])
    frequency[0, 0] = np.inf
    filtered = np.fft.irfft2(white * np.maximum(frequency, 4.0 / side) ** -slope)
    scaled: Image = (filtered / filtered.std()).astype(np.float32)
    return scaled


@cache
def noise_tile(slope: float) -> Image:
    """(512, 512) of `periodic_noise`."""
    return periodic_noise(512, slope, seed=3)


def sample_texture(scene: Scene, a: Image, b: Image, slope: float = GRAIN) -> Image:
    """The noise at two coordinates in steps of its tile, nearest."""
    row = (a + scene.noise_at[0]).astype(np.int32) & 511
    column = (b + scene.noise_at[1]).astype(np.int32) & 511
    found: Image = noise_tile(slope).ravel().take((row << 9) | column)  # several times faster than [row, column]
    return found


def rgb(*colour: float) -> Image:
    """(3, 1, 1) a colour; layers are painted with channels first, which NumPy does twice as fast."""
    return np.array(colour, np.float32)[:, None, None]


def blend(target: Image, colour: Image, opacity: Image) -> None:
    """Paints (3, rows, px) colours onto (rows, px, 3) of the canvas, in place."""
    for channel in range(3):
        layer = target[..., channel].astype(np.float32)
        layer += opacity * (colour[channel] - layer)
        target[..., channel] = np.minimum(layer, 255.0)


def develop(canvas: Image, light: Light, rng: np.random.Generator) -> Image:
    """The camera's part: white balance and saturation, tone curve, softness, noise."""
    gains = np.array(light.gains) * np.exp(rng.normal(0.0, 0.012, 3))
    grey = np.full((3, 3), (1.0 - light.saturation) / 3.0)
    matrix = gains[:, None] * (grey + light.saturation * np.eye(3))
    developed = cv2.transform(canvas, matrix.astype(np.float32))
    exposure = light.exposure * np.exp(rng.normal(0.0, 0.04))
    tone = 255.0 * np.clip(exposure * np.linspace(0.0, 1.0, 256) ** light.gamma, 0.0, 1.0)
    developed = cv2.LUT(developed, np.rint(tone).astype(np.uint8))
    if (blur := rng.uniform(-0.7, 0.6)) > 0.3:
        developed = cv2.GaussianBlur(developed, (0, 0), blur * canvas.shape[0] / 224.0)
    row, column = rng.integers(0, 512, 2)
    noise = np.take(noise_tile(0.0), np.arange(row, row + len(canvas)) & 511, axis=0)
    noise = np.take(noise, np.arange(column, column + len(canvas)) & 511, axis=1) * np.float32(light.noise)
    grained: Image = cv2.add(developed, cv2.merge((noise, noise, noise)), dtype=cv2.CV_8U)
    return grained
