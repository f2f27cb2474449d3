"""Fusions against NumPy, with absent views."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from geoguesser.errors import ConfigError
from geoguesser.model.fusion import (
    FUSIONS,
    AttentionFusion,
    ConcatFusion,
    Fusion,
    MeanFusion,
    drop_views,
    restore_fusion,
)

MASK = torch.tensor([[1, 1, 1, 1], [1, 0, 0, 1], [0, 0, 1, 0], [0, 0, 0, 0]], dtype=torch.bool)
ALL = torch.ones(4, 4, dtype=torch.bool)


def make_fusion(kind: str, size: int = 6, **keys: Any) -> Fusion:
    torch.manual_seed(0)
    sizes = {"width": 8, "heads": 2} if kind == "attention" else {}
    return FUSIONS[kind](size, **{**sizes, **keys})


def make_large_attention(**keys: Any) -> Fusion:
    """Makes an attention fusion as after training: its branch is as large as the mean."""
    fusion = make_fusion("attention", **keys)
    torch.nn.init.normal_(fusion.back.weight, std=0.5)  # type: ignore[arg-type,union-attr]
    return fusion


@pytest.fixture
def features() -> torch.Tensor:
    return torch.randn(4, 4, 6, generator=torch.Generator().manual_seed(0))


def test_mean_counts_only_present_views(features: torch.Tensor) -> None:
    fused = MeanFusion(6)(features, MASK).numpy()
    views = features.numpy()
    np.testing.assert_allclose(fused[0], views[0].mean(axis=0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fused[1], (views[1, 0] + views[1, 3]) / 2, rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(fused[2], views[2, 2], rtol=1e-6)
    np.testing.assert_array_equal(fused[3], np.zeros(6))


def test_concat_keeps_the_order_of_headings_and_zeros_for_absent_views(features: torch.Tensor) -> None:
    fused = ConcatFusion(6)(features, MASK).numpy()
    views = features.numpy()
    np.testing.assert_array_equal(fused[0], views[0].reshape(-1))
    np.testing.assert_array_equal(fused[1], np.concatenate([views[1, 0], np.zeros(12), views[1, 3]]))
    np.testing.assert_array_equal(fused[3], np.zeros(24))


@pytest.mark.parametrize("kind", sorted(FUSIONS))
def test_features_of_absent_views_change_nothing(kind: str, features: torch.Tensor) -> None:
    fusion: Fusion = make_fusion(kind)
    for value in (1e6, float("inf"), float("nan")):
        other = torch.where(MASK[..., None], features, torch.full_like(features, value))
        assert torch.equal(fusion(features, MASK), fusion(other, MASK))

    changed = features.clone()
    changed[1, 0] += 1
    assert not torch.equal(fusion(features, MASK)[1], fusion(changed, MASK)[1])


@pytest.mark.parametrize("kind", sorted(FUSIONS))
def test_a_place_without_views_gives_zeros(kind: str, features: torch.Tensor) -> None:
    fusion = make_large_attention() if kind == "attention" else make_fusion(kind, view_dropout=0.5)
    fused = fusion(features.requires_grad_(), MASK)
    assert torch.equal(fused[3], torch.zeros(fusion.output_size))
    fused.sum().backward()
    assert features.grad.isfinite().all()
    assert (features.grad[~MASK] == 0).all()


@pytest.mark.parametrize("kind", sorted(FUSIONS))
@pytest.mark.parametrize("share", [0.0, 0.25])
def test_state_makes_the_same_fusion(kind: str, share: float, features: torch.Tensor) -> None:
    fusion = make_fusion(kind, view_dropout=share)
    state = fusion.state()
    assert (state["kind"], state["view_dropout"]) == (kind, share)
    restored = restore_fusion(state, 6)
    assert restored.state() == state
    restored.load_state_dict(fusion.state_dict())
    assert torch.equal(restored(features, MASK), fusion(features, MASK))


def test_attention_records_its_size() -> None:
    size = {"width": 12, "layers": 2, "heads": 3}
    state = AttentionFusion(10, width=12, layers=2, heads=3).state()
    assert state == {"kind": "attention", "view_dropout": 0.0, **size}
    assert AttentionFusion(10, width=None, heads=5).state()["width"] == 10


def test_an_older_checkpoint_holds_only_the_kind() -> None:
    assert restore_fusion("concat", 6).state() == {"kind": "concat", "view_dropout": 0.0}


def test_attention_against_its_formula(features: torch.Tensor) -> None:
    """Computes one layer by hand: norm, attention over present views, norm, GELU layer, mean, projection."""
    fusion = make_large_attention(width=8, heads=2).double()
    w = {name: tensor.detach().numpy() for name, tensor in fusion.named_parameters()}

    def norm(x: np.ndarray[Any, Any], name: str) -> Any:
        centred = x - x.mean(-1, keepdims=True)
        return (
            centred / np.sqrt((centred**2).mean(-1, keepdims=True) + 1e-5) * w[f"{name}.weight"]
            + w[f"{name}.bias"]
        )

    def linear(x: Any, name: str) -> Any:
        return x @ w[f"{name}.weight"].T + w[f"{name}.bias"]

    for place in range(3):
        present = np.flatnonzero(MASK[place].numpy())
        views = features[place].double().numpy()[present]
        x = linear(norm(views, "project.0"), "project.1") + w["headings"][present]
        layer = "encoder.layers.0"
        inner = norm(x, f"{layer}.norm1") @ w[f"{layer}.self_attn.in_proj_weight"].T
        q, k, v = np.split(inner + w[f"{layer}.self_attn.in_proj_bias"], 3, axis=-1)
        parts = []
        for head in (slice(0, 4), slice(4, 8)):
            # Divided by the root of the head size, 4.
            scores = np.exp(q[:, head] @ k[:, head].T / 2.0)
            parts.append(scores / scores.sum(-1, keepdims=True) @ v[:, head])
        x = x + linear(np.concatenate(parts, axis=-1), f"{layer}.self_attn.out_proj")
        wide = torch.from_numpy(linear(norm(x, f"{layer}.norm2"), f"{layer}.linear1"))
        x = x + linear(torch.nn.functional.gelu(wide).numpy(), f"{layer}.linear2")
        branch = norm(x, "encoder.norm").mean(0) @ w["back.weight"].T
        fused = fusion(features.double(), MASK)[place].detach().numpy()
        np.testing.assert_allclose(fused, views.mean(0) + branch, rtol=1e-9, atol=1e-12)


def test_attention_starts_near_the_mean_and_every_part_learns(features: torch.Tensor) -> None:
    fusion = make_fusion("attention", size=6)
    mean = MeanFusion(6)(features, MASK)
    fused = fusion(features, MASK)
    assert 0.0 < float((fused - mean).abs().max().detach()) < 0.1 * float(mean.std())
    fused.square().sum().backward()
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.abs().sum() > 0, name


def test_attention_is_the_same_in_training_and_evaluation(features: torch.Tensor) -> None:
    fusion = make_large_attention(layers=2)
    training = fusion.train()(features, MASK).detach()
    with torch.no_grad():
        torch.testing.assert_close(fusion.eval()(features, MASK), training, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_under_autocast(dtype: torch.dtype, features: torch.Tensor) -> None:
    fusion = make_large_attention()
    exact = fusion(features, MASK).detach()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        fused = fusion(features.to(dtype), MASK)
        fused.float().square().sum().backward()
    torch.testing.assert_close(fused.float(), exact, atol=0.05, rtol=0.05)
    assert torch.equal(fused[3], torch.zeros(6, dtype=fused.dtype))
    for name, parameter in fusion.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


def test_concat_keeps_the_size_of_a_logit_where_views_are_dropped(features: torch.Tensor) -> None:
    same = features[:, :1].expand(4, 4, 6)
    fused = ConcatFusion(6, view_dropout=0.2)(same, MASK).unflatten(1, (4, 6)).sum(1)

    # With four, two or one views, the sum is as if absent views looked like the present ones.
    for place in range(3):
        torch.testing.assert_close(fused[place], 4 * features[place, 0])
    plain, scaled = ConcatFusion(6), ConcatFusion(6, view_dropout=0.2)
    assert torch.equal(plain(features, ALL), scaled(features, ALL))


def test_dropped_views_follow_from_the_seed() -> None:
    mask = torch.ones(64, 4, dtype=torch.bool)
    before = torch.get_rng_state()
    first = drop_views(mask, 0.5, 7)
    torch.manual_seed(5)
    assert torch.equal(drop_views(mask, 0.5, 7), first)
    assert not torch.equal(drop_views(mask, 0.5, 8), first)
    assert mask.all()
    torch.set_rng_state(before)
    drop_views(mask, 0.5, 7)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.999])
def test_share_of_dropped_views_and_never_all(share: float) -> None:
    mask = torch.ones(20_000, 4, dtype=torch.bool)
    kept = drop_views(mask, share, 1)
    assert kept.any(dim=1).all()
    expected = 1 - share + share**4 / 4
    np.testing.assert_allclose(kept.double().mean(0).numpy(), expected, atol=0.015)


def test_absent_views_stay_absent_and_the_last_one_stays() -> None:
    mask = MASK.repeat(2_000, 1)
    kept = drop_views(mask, 0.6, 3)
    assert not (kept & ~mask).any()
    assert torch.equal(kept.any(dim=1), mask.any(dim=1))
    pair = kept[1::4][:, [0, 3]].double().mean(0).numpy()
    np.testing.assert_allclose(pair, 0.4 + 0.6**2 / 2, atol=0.04)
    assert torch.equal(kept[2::4], mask[2::4])


def test_only_the_mean_without_view_dropout_condenses_places(features: torch.Tensor) -> None:
    condensed = MeanFusion(6).condense(features, MASK)
    assert torch.equal(condensed, MeanFusion(6)(features, MASK)[:, None])
    for fusion in (MeanFusion(6, view_dropout=0.3), ConcatFusion(6), AttentionFusion(6, width=4)):
        assert fusion.condense(features, MASK) is None


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("view_dropout", 1.0, "below 1"),
        ("view_dropout", -0.1, "a number from 0 to 1"),
        ("width", 10, "a multiple of fusion.heads=4"),
        ("width", 0, "an integer from 1 to 16384"),
        ("layers", 0, "an integer from 1 to 64"),
        ("heads", 1.5, "a positive integer"),
    ],
)
def test_wrong_values(key: str, value: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^fusion.{key} must be {rule}, got {value}"):
        AttentionFusion(6, **{key: value})
