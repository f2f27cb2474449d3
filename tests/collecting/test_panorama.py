"""Views of panoramas against rays turned by rotation matrices, and properties of the projection."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation
from support.photo_files import make_panorama

from geoguesser.collecting.panorama import RowBand, cut_views
from geoguesser.errors import DataError

LEVELS = 1.6  # of 255: half a level of rounding in the panorama, in a sample and in a view, and remap's 1/32 pixel


PANORAMA = np.asarray(make_panorama(512))


def compute_rays(size: int, fov_deg: float, turn_deg: float, pitch_deg: float) -> np.ndarray:
    """Returns (size, size, 3) directions right, ahead, up of a camera that is pitched, then turned right."""
    steps = ((np.arange(size) + 0.5) * 2 / size - 1) * np.tan(np.radians(fov_deg / 2))
    right, down = np.meshgrid(steps, steps)
    looks = np.stack((right, np.ones_like(right), -down), axis=-1)
    looks /= np.linalg.norm(looks, axis=-1, keepdims=True)
    turned = Rotation.from_euler("xz", [pitch_deg, -turn_deg], degrees=True).apply(looks.reshape(-1, 3))
    return turned.reshape(size, size, 3)


@pytest.mark.parametrize("fov_deg", [40.0, 90.0, 120.0])
@pytest.mark.parametrize("pitch_deg", [0.0, 25.0, -90.0, 90.0, 83.0])
def test_each_pixel_looks_where_rotation_matrices_say(pitch_deg: float, fov_deg: float) -> None:
    headings = (0, 90, 180, 270, 213.4)
    views = cut_views(
        PANORAMA, compass_deg=33.0, headings_deg=headings, pitch_deg=pitch_deg, fov_deg=fov_deg, size=96
    )
    for view, heading in zip(views, headings, strict=True):
        expected = 127.5 + 127.5 * compute_rays(96, fov_deg, heading - 33.0, pitch_deg)
        assert np.abs(view - expected).max() < LEVELS


def test_a_whole_turn_changes_nothing() -> None:
    view = cut_views(PANORAMA, compass_deg=10.0, headings_deg=[77.7], size=24).astype(int)
    for heading, compass in ((437.7, 10.0), (-282.3, 10.0), (77.7, -710.0), (88.7, 21.0)):
        turned = cut_views(PANORAMA, compass_deg=compass, headings_deg=[heading], size=24)
        assert np.abs(turned - view).max() <= 1


def sample_view(panorama: np.ndarray, size: int, samples: int) -> np.ndarray:
    """Computes the view of heading 0 with `samples` x `samples` nearest-neighbour samples per pixel."""
    looks = compute_rays(size * samples, 90.0, 0.0, 0.0)
    height, width = panorama.shape[:2]
    longitude = np.arctan2(looks[..., 0], looks[..., 1]) / (2 * np.pi) + 0.5
    latitude = 0.5 - np.arcsin(looks[..., 2]) / np.pi
    pixels = panorama[(latitude * height).astype(int), (longitude * width).astype(int) % width].astype(float)
    return pixels.reshape(size, samples, size, samples, 3).mean(axis=(1, 3))


@pytest.mark.parametrize("size", [64, 100])
def test_detail_too_fine_for_a_view_does_not_become_false_patterns(size: int) -> None:
    """Noise and stripes of two columns, against the mean of 12 x 12 samples and against a single sample."""
    noise = np.random.default_rng(0).integers(0, 256, (512, 1024, 3), dtype=np.uint8)
    stripes = np.zeros((1024, 2048, 3), dtype=np.uint8)
    stripes[:, (np.arange(2048) // 2) % 2 == 0] = 255
    for panorama in (noise, stripes):
        expected = sample_view(panorama, size, 12)
        view = cut_views(panorama, compass_deg=0.0, headings_deg=[0], size=size)[0].astype(float)
        aliased = sample_view(panorama, size, 1)
        assert np.sqrt(np.mean((view - expected) ** 2)) < 0.2 * np.sqrt(np.mean((aliased - expected) ** 2))


def test_detail_that_a_view_can_show_stays() -> None:
    panorama = np.zeros((512, 1024, 3), dtype=np.uint8)
    panorama[:, (np.arange(1024) // 16) % 2 == 0] = 255
    view = cut_views(panorama, compass_deg=0.0, headings_deg=[0], size=256)[0]
    assert view[128].std() > 115


def test_a_band_without_poles_gives_the_same_views() -> None:
    whole = cut_views(PANORAMA, compass_deg=10.0, size=64)
    part = cut_views(PANORAMA[100:420], compass_deg=10.0, size=64, band=RowBand(100, 512))
    assert np.abs(whole.astype(int) - part).max() <= 2


def test_a_view_of_rows_that_are_not_there_is_refused() -> None:
    with pytest.raises(DataError, match=r"^p\.jpg shows latitudes -20 to 20 degrees, and a view of pitch 0"):
        cut_views(PANORAMA[199:313], compass_deg=0.0, band=RowBand(199, 512), where="p.jpg")
    with pytest.raises(DataError, match=r"p\.jpg must hold rows within its sphere's 512, .* got '300 to 620'"):
        cut_views(PANORAMA[:320], compass_deg=0.0, band=RowBand(300, 512), where="p.jpg")


def test_other_shapes_are_refused_by_the_name_of_the_file() -> None:
    with pytest.raises(DataError, match=r"^p\.jpg must be a full equirectangular panorama, .* got '1024 x 400'"):
        cut_views(PANORAMA[:400], compass_deg=0.0, where="p.jpg")
    with pytest.raises(DataError, match=r"must be \(H, W, 3\) uint8"):
        cut_views(PANORAMA[..., 0], compass_deg=0.0)
