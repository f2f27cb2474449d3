"""Predictor: a checkpoint file predicts what the network predicted."""

from __future__ import annotations

from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from support.toy_run import IMAGE, REGION, ToyData, toy_network, toy_places

from geoguesser.errors import CheckpointError
from geoguesser.inference.checkpoint import CHECKPOINT_FORMAT, read_checkpoint
from geoguesser.inference.predictor import Predictor


@pytest.fixture(scope="module")
def predictor() -> Predictor:
    network = toy_network()
    with torch.no_grad():
        # So that predictions differ between places.
        network.head.linear.weight.mul_(30.0)
    return Predictor(network, REGION, IMAGE)


def predict_with_network(network: Any, images: torch.Tensor, mask: torch.Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        return network.eval().head.decode(network(images, mask)).double().numpy()


def test_predictions_are_those_of_the_network(predictor: Predictor) -> None:
    images = toy_places()[1][:6]
    mask = torch.ones(6, 4, dtype=torch.bool)
    coords_deg = predictor.predict_coords(images)
    np.testing.assert_array_equal(coords_deg, predict_with_network(predictor.network, images, mask))
    assert coords_deg.dtype == np.float64
    assert np.ptp(coords_deg, axis=0).min() > 0.01

    mask[:, 1] = False
    with_mask = predictor.predict_coords(images, mask)
    np.testing.assert_array_equal(with_mask, predict_with_network(predictor.network, images, mask))
    assert not np.array_equal(with_mask, coords_deg)


def test_a_file_restores_the_predictor(predictor: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    predictor.save(path)
    assert [file.name for file in tmp_path.iterdir()] == ["model.ckpt"]

    restored = Predictor.load(path)
    images = toy_places()[1]
    np.testing.assert_array_equal(restored.predict_coords(images), predictor.predict_coords(images))
    assert (restored.image, restored.region.name) == (IMAGE, "Toyland")
    assert restored.region.diagonal_km == pytest.approx(REGION.diagonal_km)
    assert not restored.network.training


def test_a_file_of_format_1_predicts_the_same(predictor: Predictor, tmp_path: Path) -> None:
    """Its head does not standardise features, and has no buffers for that."""
    path = tmp_path / "old.ckpt"
    predictor.save(path)
    old = torch.load(path, weights_only=True)
    old["geoguesser"]["format"] = 1
    del old["state_dict"]["network.head.centre"], old["state_dict"]["network.head.spread"]
    torch.save(old, path)
    images = toy_places()[1]
    np.testing.assert_array_equal(Predictor.load(path).predict_coords(images), predictor.predict_coords(images))


@pytest.mark.parametrize("content", [b"hello", b"", {"state_dict": {"a": torch.zeros(1)}}, [1, 2], ToyData])
def test_a_foreign_file_is_refused(content: object, tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        torch.save(content, path)
    with pytest.raises(CheckpointError, match=rf"^{path} is no checkpoint of geoguesser: [^\n]+$"):
        read_checkpoint(path)


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"region": {}}, r"does not describe a model \(KeyError: "),
        ({"image": {"width": 3}}, r"does not describe a model \(TypeError: "),
        ({"format": CHECKPOINT_FORMAT + 1}, r"has format 3; this version reads up to 2\."),
        ({}, r"does not fit the network that it describes: .*head\.linear\.bias"),
    ],
)
def test_a_broken_checkpoint_is_refused(
    changes: dict[str, object], rule: str, predictor: Predictor, tmp_path: Path
) -> None:
    path = tmp_path / "model.ckpt"
    predictor.save(path)
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["geoguesser"] |= changes
    del checkpoint["state_dict"]["network.head.linear.bias"]
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError, match=rf"(?s)^{path} {rule}"):
        Predictor.load(path)


def test_a_failed_save_keeps_the_earlier_file(
    predictor: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.ckpt"
    predictor.save(path)
    before = path.read_bytes()

    def fail(_: Any, stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", fail)
    with pytest.raises(OSError, match="disk full"):
        predictor.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]
