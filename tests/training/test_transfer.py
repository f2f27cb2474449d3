"""Starting and resuming networks from checkpoints of this version and of earlier ones."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from support.toy_run import IMAGE, REGION, toy_network, toy_places

from geoguesser.errors import CheckpointError
from geoguesser.inference.checkpoint import read_checkpoint
from geoguesser.inference.predictor import Predictor
from geoguesser.model.decoder import MedianDecoder
from geoguesser.model.fusion import AttentionFusion, MeanFusion
from geoguesser.model.network import GeoNetwork
from geoguesser.training.transfer import load_initial_weights, resume_network


def make_network(**keys: Any) -> GeoNetwork:
    network = toy_network()
    size = network.backbone.feature_size
    network.fusion = AttentionFusion(size, **keys) if "width" in keys else MeanFusion(size, **keys)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    return network


def save(network: GeoNetwork, path: Path, *, older: bool = False) -> str:
    Predictor(network, REGION, IMAGE).save(path)
    if older:
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["geoguesser"]["network"]["fusion"] = network.fusion.kind
        torch.save(checkpoint, path)
    return str(path)


def are_equal(left: GeoNetwork, right: GeoNetwork) -> bool:
    tensors = right.state_dict()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in left.state_dict().items())


def test_an_older_checkpoint_predicts_starts_and_resumes(tmp_path: Path) -> None:
    network = make_network()
    path = save(network, tmp_path / "old.ckpt", older=True)
    images = toy_places()[1][:3]
    expected = Predictor(network, REGION, IMAGE).predict_coords(images)
    assert (Predictor.load(path).predict_coords(images) == expected).all()
    started, resumed = toy_network(), toy_network()
    assert load_initial_weights(started, path) == (f"network from {path}", True)
    resume_network(resumed, read_checkpoint(Path(path)), path)
    assert are_equal(started, network)
    assert are_equal(resumed, network)


def test_a_checkpoint_with_the_removed_decoder_auto_uses_the_median(tmp_path: Path) -> None:
    network = toy_network()
    network.head.decoder = MedianDecoder()
    path = save(network, tmp_path / "old.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["geoguesser"]["network"]["head"]["decoder"] = {"kind": "auto"}
    torch.save(checkpoint, path)

    images = toy_places()[1][:3]
    assert (
        Predictor.load(path).predict_coords(images) == Predictor(network, REGION, IMAGE).predict_coords(images)
    ).all()
    resumed = toy_network()
    resumed.head.decoder = MedianDecoder()
    resume_network(resumed, read_checkpoint(Path(path)), path)
    with pytest.raises(CheckpointError, match="cannot be resumed: its head differs"):
        resume_network(toy_network(), read_checkpoint(Path(path)), path)


def test_a_new_run_may_have_another_view_dropout_but_a_resumed_run_may_not(tmp_path: Path) -> None:
    path = save(make_network(), tmp_path / "one.ckpt")
    assert load_initial_weights(make_network(view_dropout=0.5), path) == (f"network from {path}", True)
    with pytest.raises(CheckpointError, match=r"^run cannot be resumed: its fusion differs"):
        resume_network(make_network(view_dropout=0.5), read_checkpoint(Path(path)), "run")


@pytest.mark.parametrize("keys", [{"width": 8}, {"width": 16}, {"width": 8, "layers": 2}])
def test_another_fusion_starts_afresh(tmp_path: Path, keys: dict[str, int]) -> None:
    path = save(make_network(width=16, layers=2), tmp_path / "one.ckpt")
    network = make_network(**keys)
    line, complete = load_initial_weights(network, path)
    assert line.startswith(f"backbone from {path}; fusion and head start afresh")
    assert not complete


def test_attention_is_loaded_completely(tmp_path: Path) -> None:
    network = make_network(width=8, layers=2)
    path = save(network, tmp_path / "one.ckpt")
    started = toy_network()
    started.fusion = AttentionFusion(started.backbone.feature_size, width=8, layers=2)
    assert load_initial_weights(started, path) == (f"network from {path}", True)
    assert are_equal(started, network)
    images, mask = toy_places()[1][:3], torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    expected = Predictor(network, REGION, IMAGE).predict_coords(images, mask)
    assert (Predictor.load(path).predict_coords(images, mask) == expected).all()
