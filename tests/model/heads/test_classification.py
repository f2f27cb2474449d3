"""ClassificationHead: classes, hits, posterior, starting bias and combined grids."""

from __future__ import annotations

import copy
import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from sklearn.metrics import top_k_accuracy_score
from support.toy_run import fit_head

from geoguesser.geo.distance import to_unit
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import PlaneRegion
from geoguesser.model.decoder import MeanDecoder
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.losses import CellLoss, CrossEntropy, SmoothedCrossEntropy


def fit(region: PlaneRegion, places: Any, loss: CellLoss | None = None) -> ClassificationHead:
    torch.manual_seed(0)
    return fit_head(8, places, region=region, grid=SquareGrid(size=20), loss=loss or CrossEntropy())


@pytest.fixture(scope="module")
def head(region: PlaneRegion, places: Any) -> ClassificationHead:
    return fit(region, places[:100])


def draw_outputs(head: ClassificationHead, count: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(count, head.output_size, generator=torch.Generator().manual_seed(seed))


def test_classes_are_the_grids(head: ClassificationHead, region: PlaneRegion, places: Any) -> None:
    grid = SquareGrid(size=20).fit(region, places[:100])
    assert head.output_size == head.linear.out_features == grid.num_cells > 6
    cells = head.targets(places)["cell"]
    assert cells.dtype == torch.int64
    np.testing.assert_array_equal(cells.numpy(), grid.assign(places))
    np.testing.assert_allclose(head.class_vectors.numpy(), to_unit(grid.class_points_deg), atol=1e-6)


def test_hits_agree_with_scikit_learn(head: ClassificationHead) -> None:
    out = draw_outputs(head, 200, 1)
    cells = torch.randint(0, head.output_size, (200,), generator=torch.Generator().manual_seed(1))
    hits = head.hits(out, {"cell": cells})
    assert head.hit_names == ("cell_top1", "cell_top5")
    assert hits.dtype == torch.bool

    labels = np.arange(head.output_size)
    for column, k in enumerate((1, 5)):
        share = top_k_accuracy_score(cells.numpy(), out.numpy(), k=k, labels=labels)
        assert 0 < share < 1
        assert float(hits[:, column].double().mean()) == pytest.approx(share)


def test_hits_with_fewer_than_five_cells(region: PlaneRegion, places: Any) -> None:
    head = fit(region, places[:1])
    assert head.output_size == 1
    assert head.hits(torch.zeros(3, 1), {"cell": torch.zeros(3, dtype=torch.int64)}).all()


def test_the_posterior_is_the_softmax(head: ClassificationHead) -> None:
    out = 10 * draw_outputs(head, 5, 2)
    exponential = np.exp(out.double().numpy())
    expected = exponential / exponential.sum(1, keepdims=True)
    np.testing.assert_allclose(head.posterior(out).numpy(), expected, atol=1e-6)
    assert head.posterior(out.bfloat16()).dtype == torch.float32


def test_confident_logits_decode_to_the_class_point(head: ClassificationHead) -> None:
    decoded = head.decode(torch.eye(head.output_size) * 100)
    np.testing.assert_allclose(decoded.numpy(), head.grid.class_points_deg, atol=1e-4)


def test_the_posterior_starts_at_the_cells_shares_of_the_targets(region: PlaneRegion, places: Any) -> None:
    head = fit(region, places)
    out = head(torch.randn(3, 8, generator=torch.Generator().manual_seed(0)))
    cells = head.targets(places)["cell"].numpy()
    shares = np.bincount(cells, minlength=head.num_logits) / len(places)
    np.testing.assert_allclose(head.posterior(out).detach().numpy(), np.tile(shares, (3, 1)), atol=1e-5)

    smoothed = fit(region, places, SmoothedCrossEntropy(tau=0.5))
    target = smoothed.targets(places)
    expected = np.zeros(smoothed.num_logits)
    np.add.at(expected, target["near"].numpy().ravel(), target["share"].double().numpy().ravel() / len(places))
    start = smoothed.posterior(smoothed(torch.zeros(1, 8))).detach().numpy()[0]
    np.testing.assert_allclose(start, expected, atol=1e-5)

    # All cells hold places, and with balance=1 each counts the same.
    balanced = fit(region, places, CrossEntropy(class_balance=1.0))
    start = balanced.posterior(balanced(torch.zeros(1, 8))).detach().numpy()[0]
    np.testing.assert_allclose(start, 1 / balanced.num_logits, atol=1e-5)
    weights = balanced.targets(places)["weight"].numpy()
    np.testing.assert_allclose(weights * shares[cells] * balanced.num_logits, 1.0, rtol=1e-4)


def test_features_are_centred_and_scaled(head: ClassificationHead) -> None:
    head = copy.deepcopy(head)
    fused = torch.randn(500, 8, generator=torch.Generator().manual_seed(0)) * torch.arange(1.0, 9.0) + 100.0
    head.fit_scaling(fused)
    values = fused.double().numpy()
    deviation = np.sqrt(values.var(axis=0).mean())
    np.testing.assert_allclose(head.centre.numpy(), values.mean(axis=0), rtol=1e-6)
    assert float(head.spread) == pytest.approx(deviation, rel=1e-6)

    with torch.no_grad():
        head.linear.weight.normal_(generator=torch.Generator().manual_seed(1))
    weight, bias = (parameter.detach().double().numpy() for parameter in head.linear.parameters())
    expected = (values - values.mean(axis=0)) / deviation @ weight.T + bias
    np.testing.assert_allclose(head(fused).detach().numpy(), expected, atol=1e-3)

    head.fit_scaling(fused[:1])
    assert float(head.spread) == 1.0


def test_pieces_of_a_combined_grid_sum_the_outputs_of_their_cells(region: PlaneRegion, places: Any) -> None:
    grid = SquareGrid(size=20).fit(region, places)
    parents = np.stack((np.arange(grid.num_cells), grid.num_cells + np.arange(grid.num_cells) // 4), axis=-1)
    head = ClassificationHead(
        8, grid=dataclasses.replace(grid, parents=parents), loss=CrossEntropy(), decoder=MeanDecoder()
    )
    assert head.output_size == parents.max() + 1

    out = draw_outputs(head, 5)
    logits = head.logits(out)
    assert logits.shape == (5, grid.num_cells)
    for piece, (first, second) in enumerate(parents):
        torch.testing.assert_close(logits[:, piece], out[:, first] + out[:, second])

    assert head.posterior(out).sum(dim=1).tolist() == pytest.approx([1.0] * 5)
    target = head.targets(places[:5])
    expected = torch.nn.functional.cross_entropy(logits, target["cell"])
    torch.testing.assert_close(head.loss(out, target), expected)
