"""What a network takes from another run's, where the fusion was recorded by an older version or differs."""

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
from geoguesser.training.transfer import resume_network, start_network


def changed(**keys: Any) -> GeoNetwork:
    network = toy_network()
    size = network.backbone.feature_size
    network.fusion = AttentionFusion(size, **keys) if "width" in keys else MeanFusion(size, **keys)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.01)
    return network


def saved(network: GeoNetwork, path: Path, *, older: bool = False) -> str:
    Predictor(network, REGION, IMAGE).save(path)
    if older:
        checkpoint = torch.load(path, weights_only=True)
        checkpoint["geoguesser"]["network"]["fusion"] = network.fusion.kind
        torch.save(checkpoint, path)
    return str(path)


def same(one: GeoNetwork, other: GeoNetwork) -> bool:
    tensors = other.state_dict()
    return all(torch.equal(tensor, tensors[name]) for name, tensor in one.state_dict().items())


def test_an_older_checkpoint_answers_starts_and_resumes(tmp_path: Path) -> None:
    given = changed()
    path = saved(given, tmp_path / "old.ckpt", older=True)
    images = toy_places()[1][:3]
    expected = Predictor(given, REGION, IMAGE).predict_coords(images)
    assert (Predictor.load(path).predict_coords(images) == expected).all()
    started, resumed = toy_network(), toy_network()
    assert start_network(started, path) == (f"network from {path}", True)
    resume_network(resumed, read_checkpoint(Path(path)), path)
    assert same(started, given)
    assert same(resumed, given)


def test_a_checkpoint_with_the_removed_decoder_auto_answers_and_resumes_by_the_median_only(tmp_path: Path) -> None:
    given = toy_network()
    given.head.decoder = MedianDecoder()
    path = saved(given, tmp_path / "old.ckpt")
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["geoguesser"]["network"]["head"]["decoder"] = {"kind": "auto"}
    torch.save(checkpoint, path)

    images = toy_places()[1][:3]
    assert (
        Predictor.load(path).predict_coords(images) == Predictor(given, REGION, IMAGE).predict_coords(images)
    ).all()
    resumed = toy_network()
    resumed.head.decoder = MedianDecoder()
    resume_network(resumed, read_checkpoint(Path(path)), path)
    with pytest.raises(CheckpointError, match="cannot be resumed: its head differs"):
        resume_network(toy_network(), read_checkpoint(Path(path)), path)


def test_a_new_run_may_drop_views_and_takes_the_whole_network(tmp_path: Path) -> None:
    path = saved(changed(), tmp_path / "one.ckpt")
    assert start_network(changed(view_dropout=0.5), path) == (f"network from {path}", True)


def test_a_resumed_run_keeps_its_view_dropout(tmp_path: Path) -> None:
    path = saved(changed(), tmp_path / "one.ckpt")
    with pytest.raises(CheckpointError) as caught:
        resume_network(changed(view_dropout=0.5), read_checkpoint(Path(path)), "run")
    assert str(caught.value).startswith("run cannot be resumed: its fusion differs from what data and config")


@pytest.mark.parametrize("keys", [{"width": 8}, {"width": 16}, {"width": 8, "layers": 2}])
def test_another_fusion_starts_afresh(tmp_path: Path, keys: dict[str, int]) -> None:
    path = saved(changed(width=16, layers=2), tmp_path / "one.ckpt")
    network = changed(**keys)
    line, whole = start_network(network, path)
    assert line.startswith(f"backbone from {path}; fusion and head start afresh")
    assert not whole


def test_attention_comes_whole_and_answers_from_a_file(tmp_path: Path) -> None:
    given = changed(width=8, layers=2)
    path = saved(given, tmp_path / "one.ckpt")
    started = toy_network()
    started.fusion = AttentionFusion(started.backbone.feature_size, width=8, layers=2)
    assert start_network(started, path) == (f"network from {path}", True)
    assert same(started, given)
    images, mask = toy_places()[1][:3], torch.tensor([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]]).bool()
    expected = Predictor(given, REGION, IMAGE).predict_coords(images, mask)
    assert (Predictor.load(path).predict_coords(images, mask) == expected).all()
