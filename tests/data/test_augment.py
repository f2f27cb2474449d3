"""Augmentation: each parameter by what it does to hand-made views; torchvision where it does the same."""

from __future__ import annotations

import math
from dataclasses import fields
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as vision

from geoguesser.data.augment import Augment
from geoguesser.errors import ConfigError

NAMES = [field.name for field in fields(Augment)]
STRONG = Augment(brightness=0.4, contrast=0.4, saturation=0.5, zoom=0.3, shift=0.08, rotate_deg=5.0, erase=0.3)


def noise(places: int = 3, px: int = 24, low: int = 0, high: int = 256) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(low, high, (places, 4, 3, px, px), generator=generator, dtype=torch.uint8)


def flat(colour: tuple[int, int, int], places: int = 8, px: int = 16) -> Tensor:
    return torch.tensor(colour, dtype=torch.uint8).view(1, 1, 3, 1, 1).expand(places, 4, 3, px, px).clone()


def blob(px: int = 96, x: float = 0.0, y: float = 0.0, places: int = 25) -> Tensor:
    """Smooth spots of light with their middle at (x, y), in sides from the view's middle."""
    at = (torch.arange(px) + 0.5) / px - 0.5
    spot = torch.exp(-((at[None, :] - x) ** 2 + (at[:, None] - y) ** 2) / 2 / 0.05**2)
    return (spot * 250).round().to(torch.uint8).expand(places, 4, 3, px, px).clone()


def middle(views: Tensor) -> Tensor:
    """(N, 2) x and y of the light's middle, in sides from the view's middle."""
    light = views.flatten(0, 1)[:, 0].double()
    at = (torch.arange(light.shape[-1], dtype=torch.float64) + 0.5) / light.shape[-1] - 0.5
    total = light.sum((1, 2))
    return torch.stack(((light.sum(1) * at).sum(1) / total, (light.sum(2) * at).sum(1) / total), -1)


def all_different(values: Tensor) -> bool:
    return len(torch.unique(values, dim=0)) == len(values)


# The whole


def test_nothing_is_changed_where_nothing_is_asked() -> None:
    images = noise()
    assert not Augment().active
    assert Augment()(images, 0) is images


@pytest.mark.parametrize("name", NAMES)
def test_each_parameter_alone_is_active_and_drawn_for_each_view(name: str) -> None:
    augment = Augment(**{name: 0.8 if name != "rotate_deg" else 20.0})
    assert augment.active
    images = noise(places=1, px=48)[:, :1].expand(5, 4, 3, 48, 48).clone()  # the same view everywhere
    before = images.clone()
    changed = augment(images, 0)
    assert (changed.shape, changed.dtype) == (images.shape, torch.uint8)
    assert torch.equal(images, before)
    assert all_different(changed.flatten(0, 1).flatten(1))


@pytest.mark.parametrize("name", NAMES)
def test_the_least_strength_changes_no_more_than_by_rounding(name: str) -> None:
    images = noise(low=5, high=250)
    changed = Augment(**{name: 1e-6})(images, 3)
    assert (changed.int() - images.int()).abs().max() <= 1


@pytest.mark.parametrize("seed", [0, 2**63 - 1])
def test_only_the_seed_counts_and_the_global_generator_is_left_alone(seed: int) -> None:
    images = noise()
    changed = STRONG(images, seed)
    torch.manual_seed(0)
    expected = torch.rand(3)

    torch.manual_seed(0)
    assert torch.equal(STRONG(images, seed), changed)
    assert torch.equal(torch.rand(3), expected)


def test_other_seeds_and_other_views_are_changed_in_other_ways() -> None:
    images = blob(px=32, places=6)
    runs = torch.stack([STRONG(images, seed) for seed in range(4)])
    assert all_different(runs.flatten(0, 2).flatten(1))


def test_values_stay_in_range() -> None:
    """Brighter than white is white, not black again."""
    augment = Augment(brightness=0.9, contrast=0.9, saturation=0.9)
    assert not augment(flat((0, 0, 0)), 0).any()
    white = augment(flat((255, 255, 255)), 0)
    assert 0.3 < (white == 255).float().mean() < 0.7  # brighter ones are cut off, darker ones are not
    assert white.min() >= math.floor(255 * 0.1)


def test_left_stays_left_and_up_stays_up() -> None:
    """No flips: a marker in a corner is in that corner for every view and seed."""
    for x, y in ((-0.25, -0.2), (0.25, -0.2), (-0.25, 0.2)):
        images = blob(px=32, x=x, y=y, places=10)
        for seed in range(5):
            moved = middle(Augment(zoom=0.2, shift=0.03, rotate_deg=15.0)(images, seed))
            assert (torch.sign(moved) == torch.sign(torch.tensor([x, y]))).all()


def test_views_of_a_place_keep_their_order() -> None:
    images = torch.stack([flat((40 * heading + 20,) * 3, places=5)[:, 0] for heading in range(4)], dim=1)
    changed = Augment(zoom=0.5, shift=0.3, rotate_deg=20)(images, 0)
    assert (changed.int() - images.int()).abs().max() <= 1


# Colours


def test_brightness_multiplies() -> None:
    images = flat((100, 60, 20), places=200)
    changed = Augment(brightness=0.5)(images, 0).flatten(0, 1).float()
    assert (changed.amax((2, 3)) == changed.amin((2, 3))).all()  # one factor for a view
    factor = changed[:, 0, 0, 0] / 100
    assert 0.495 <= factor.min() < 0.55
    assert 1.45 < factor.max() <= 1.505
    assert factor.mean() == pytest.approx(1.0, abs=0.05)
    np.testing.assert_allclose(changed[:, 1, 0, 0], factor * 60, atol=1)
    np.testing.assert_allclose(changed[:, 2, 0, 0], factor * 20, atol=1)


@pytest.mark.parametrize(
    ("name", "theirs"), [("contrast", vision.adjust_contrast), ("saturation", vision.adjust_saturation)]
)
def test_contrast_and_saturation_are_those_of_torchvision(name: str, theirs: Any) -> None:
    """Each view is one that torchvision makes by some factor in the range."""
    images = noise(places=3, px=24, low=90, high=160)
    changed = Augment(**{name: 0.5})(images, 0)
    factors = np.linspace(0.5, 1.5, 201)
    best = []
    for before, after in zip(images.flatten(0, 1), changed.flatten(0, 1), strict=True):
        off = [(theirs(before, factor).int() - after.int()).abs().max().item() for factor in factors]
        assert min(off) <= 2  # torchvision rounds twice
        best.append(factors[int(np.argmin(off))])
    assert max(best) > 1.2
    assert min(best) < 0.8


# Moves


def test_shift_moves_up_to_its_share_of_the_side_each_way() -> None:
    moved = middle(Augment(shift=0.2)(blob(), 0))
    assert moved.abs().max() <= 0.205
    assert (moved.amin(0) < -0.17).all()
    assert (moved.amax(0) > 0.17).all()
    assert abs(float(torch.corrcoef(moved.T)[0, 1])) < 0.35  # drawn apart


def test_zoom_only_magnifies_and_about_the_middle() -> None:
    off = Augment(zoom=0.5)(blob(x=0.2), 0)
    moved = middle(off) / 0.2
    np.testing.assert_allclose(moved[:, 1], 0, atol=0.01)
    assert moved[:, 0].min() == pytest.approx(1.0, abs=0.05)
    assert moved[:, 0].max() == pytest.approx(1.5, abs=0.05)
    area = off.flatten(0, 1)[:, 0].double().sum((1, 2)) / blob(x=0.2)[0, 0, 0].double().sum()
    np.testing.assert_allclose(area.sqrt(), moved[:, 0], atol=0.03)  # magnified as much as it moved


def test_rotation_turns_about_the_middle_up_to_its_angle_either_way() -> None:
    moved = middle(Augment(rotate_deg=30.0)(blob(x=0.25), 0))
    np.testing.assert_allclose(moved.norm(dim=1), 0.25, atol=0.005)
    angle = torch.rad2deg(torch.atan2(moved[:, 1], moved[:, 0]))
    assert -30.5 <= angle.min() < -24
    assert 24 < angle.max() <= 30.5


def test_what_comes_in_from_outside_is_mirrored_and_never_black() -> None:
    images = noise(low=100, high=110)
    changed = Augment(zoom=0.3, shift=0.4, rotate_deg=45)(images, 0)
    assert changed.min() >= 100
    assert changed.max() <= 110


def test_erase_makes_one_grey_square_of_up_to_its_share() -> None:
    images = flat((255, 0, 255), places=50, px=40)
    changed = Augment(erase=0.5)(images, 0).flatten(0, 1)
    hole = (changed == 127).all(1)
    assert (hole | (changed == images.flatten(0, 1)).all(1)).all()  # grey, or as it was
    heights, widths = hole.any(2).sum(1), hole.any(1).sum(1)
    assert torch.equal(hole.sum((1, 2)), heights * widths)  # full, so one rectangle (or none)
    assert (heights - widths).abs().max() <= 1
    assert 18 <= heights.max() <= 21
    assert heights.min() <= 2
    rows, columns = hole.any(2).float().mean(0), hole.any(1).float().mean(0)
    for share in (rows, columns):  # anywhere in the view
        assert (share > 0).all()
        assert share[:20].mean() == pytest.approx(float(share[20:].mean()), abs=0.1)


# Ranges


@pytest.mark.parametrize("name", NAMES)
def test_values_out_of_range_name_their_key(name: str) -> None:
    high = "45" if name == "rotate_deg" else "0.9"
    for value in (-0.01, 45.1, float("nan"), float("inf"), True, "0.1", None):
        with pytest.raises(ConfigError, match=rf"^augment\.{name} must be a number from 0 to {high}, got"):
            Augment(**{name: value})
    Augment(**{name: float(high)})
