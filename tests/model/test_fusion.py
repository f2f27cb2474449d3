"""Fusion against NumPy, with views absent."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from geoguesser.model.fusion import FUSIONS, ConcatFusion, Fusion, MeanFusion

MASK = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(4, 4, 6, generator=torch.Generator().manual_seed(0))


def test_mean_counts_only_the_views_that_are_there(features: torch.Tensor) -> None:
    found = MeanFusion(6)(features, MASK).numpy()
    own = features.numpy()
    np.testing.assert_allclose(found[0], own[0].mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[1], (own[1, 0] + own[1, 3]) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(found[2], own[2, 2], rtol=1e-6)
    np.testing.assert_array_equal(found[3], np.zeros(6))


def test_concat_keeps_the_order_of_headings_and_zeros_for_absent_views(features: torch.Tensor) -> None:
    found = ConcatFusion(6)(features, MASK).numpy()
    own = features.numpy()
    np.testing.assert_array_equal(found[0], own[0].reshape(-1))
    np.testing.assert_array_equal(found[1], np.concatenate([own[1, 0], np.zeros(12), own[1, 3]]))
    np.testing.assert_array_equal(found[3], np.zeros(24))


@pytest.mark.parametrize("kind", sorted(FUSIONS))
def test_what_an_absent_view_holds_changes_nothing(kind: str, features: torch.Tensor) -> None:
    fusion: Fusion = FUSIONS[kind](6)
    other = torch.where(MASK[..., None], features, torch.full_like(features, 1e6))
    assert torch.equal(fusion(features, MASK), fusion(other, MASK))
    changed = features.clone()
    changed[1, 0] += 1  # a view that is there
    assert not torch.equal(fusion(features, MASK)[1], fusion(changed, MASK)[1])


@pytest.mark.parametrize("kind", sorted(FUSIONS))
def test_output_size_and_kind(kind: str, features: torch.Tensor) -> None:
    fusion: Fusion = FUSIONS[kind](6)
    assert fusion.kind == kind
    assert tuple(fusion(features, MASK).shape) == (4, fusion.output_size)
