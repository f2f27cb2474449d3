"""Locator: one file that answers as the network did, without Lightning or Hydra."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pytest
import torch
from PIL import Image
from support.toy_run import IMAGE, REGION, ToyData, toy_module, toy_network, toy_places, toy_trainer

from geoguesser.data.images import ImageSpec
from geoguesser.errors import CheckpointError, DataError, MissingFileError
from geoguesser.geo.region import SphereRegion
from geoguesser.inference.api import Model
from geoguesser.inference.checkpoint import CHECKPOINT_FORMAT, find_checkpoint, make_record, read_checkpoint
from geoguesser.inference.predictor import Predictor
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.training.callbacks import BestCheckpoint

WRONG_FOLDER = (
    "must be a run folder with checkpoints/best.ckpt, or a checkpoint file. Runs lie in outputs/DATE/TIME."
)


@pytest.fixture(scope="module")
def locator() -> Predictor:
    network = toy_network()
    with torch.no_grad():
        network.head.linear.weight.mul_(30.0)  # so that places differ
    return Predictor(network, REGION, IMAGE)


def own_answer(network: Any, images: torch.Tensor, mask: torch.Tensor) -> np.ndarray[Any, Any]:
    with torch.no_grad():
        answer: np.ndarray[Any, Any] = network.eval().head.decode(network(images, mask)).double().numpy()
    return answer


def test_predictions_are_the_networks_own(locator: Predictor) -> None:
    images = toy_places()[1][:6]
    mask = torch.ones(6, 4, dtype=torch.bool)
    found = locator.predict_coords(images)
    np.testing.assert_array_equal(found, own_answer(locator.network, images, mask))
    assert found.dtype == np.float64
    assert np.ptp(found, axis=0).min() > 0.01
    mask[:, 1] = False
    with_mask = locator.predict_coords(images, mask)
    np.testing.assert_array_equal(with_mask, own_answer(locator.network, images, mask))
    assert not np.array_equal(with_mask, found)


def test_a_file_answers_as_the_locator_that_wrote_it(locator: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    locator.save(path)
    assert [one.name for one in tmp_path.iterdir()] == ["model.ckpt"]
    again = Predictor.load(path)
    images = toy_places()[1]
    np.testing.assert_array_equal(again.predict_coords(images), locator.predict_coords(images))
    assert again.image == IMAGE
    assert again.region.name == "Toyland"
    assert again.region.diagonal_km == pytest.approx(REGION.diagonal_km)
    assert not again.network.training
    second = tmp_path / "second.ckpt"
    again.save(second)
    np.testing.assert_array_equal(Predictor.load(second).predict_coords(images), locator.predict_coords(images))


@pytest.mark.parametrize("space", ["crs", "sphere"])
def test_regression_answers_survive_a_file(space: str, tmp_path: Path) -> None:
    network = toy_network()
    region = REGION if space == "crs" else SphereRegion()
    network.head = RegressionHead.fit(
        in_features=network.fusion.output_size, region=region, train_coords_deg=toy_places()[0], space=space
    )
    made = Predictor(network, region, ImageSpec(size=32, fit="squash"))
    made.save(tmp_path / "model.ckpt")
    again = Predictor.load(tmp_path / "model.ckpt")
    images = toy_places()[1][:4]
    np.testing.assert_array_equal(again.predict_coords(images), made.predict_coords(images))
    assert again.image.fit == "squash"


def test_folders_of_views(locator: Predictor, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for heading in (0, 90, 180, 270):
            pixels = np.full((48, 64, 3), rng.integers(0, 255, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / name / f"{heading}.jpg")
    folders = [tmp_path / "b", str(tmp_path / "a")]
    images = np.stack(
        [[IMAGE.read(Path(folder) / f"{heading}.jpg") for heading in (0, 90, 180, 270)] for folder in folders]
    )
    found = Model(locator).predict(folders).coords_deg
    np.testing.assert_array_equal(found, locator.predict_coords(torch.from_numpy(images)))
    assert not np.array_equal(found[0], found[1])
    (tmp_path / "a" / "90.jpg").write_bytes(b"")
    with pytest.raises(DataError, match=r"images must be .*: 90\.jpg is no whole image"):
        Model(locator).predict(folders)


def test_a_run_folder_means_its_best_checkpoint(tmp_path: Path) -> None:
    module = toy_module()
    data = ToyData()
    best = BestCheckpoint(dirpath=str(tmp_path / "checkpoints"))
    toy_trainer(tmp_path, epochs=1, callbacks=[best]).fit(module, datamodule=data)
    assert find_checkpoint(tmp_path) == tmp_path / "checkpoints" / "best.ckpt"
    again = Predictor.load(str(tmp_path))
    mask = torch.ones(len(data.pixels), 4, dtype=torch.bool)
    np.testing.assert_array_equal(again.predict_coords(data.pixels), own_answer(module.network, data.pixels, mask))


def test_places_where_there_is_none(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "no.ckpt"):
        with pytest.raises(MissingFileError) as caught:
            Predictor.load(path)
        assert str(caught.value) == f"{path} {WRONG_FOLDER}"


def test_a_newer_format_is_refused(locator: Predictor, tmp_path: Path) -> None:
    record = make_record(locator.network, locator.region, locator.image) | {"format": CHECKPOINT_FORMAT + 1}
    path = tmp_path / "new.ckpt"
    torch.save({"geoguesser": record, "state_dict": {}}, path)
    with pytest.raises(CheckpointError) as caught:
        Predictor.load(path)
    assert str(caught.value) == f"{path} has format 3; this version reads up to 2. Update geoguesser."


def test_a_file_of_the_first_format_answers_as_ever(locator: Predictor, tmp_path: Path) -> None:
    """Its head did not scale what it is given, and had no buffers for that."""
    path = tmp_path / "old.ckpt"
    locator.save(path)
    old = torch.load(path, weights_only=True)
    old["geoguesser"]["format"] = 1
    del old["state_dict"]["network.head.centre"], old["state_dict"]["network.head.spread"]
    torch.save(old, path)
    images = toy_places()[1]
    np.testing.assert_array_equal(Predictor.load(path).predict_coords(images), locator.predict_coords(images))


def foreign(kind: str, path: Path) -> None:
    if kind == "text":
        path.write_text("hello")
    elif kind == "empty":
        path.touch()
    elif kind == "jpeg":
        Image.new("RGB", (8, 8)).save(path, "JPEG")
    elif kind == "tensors":
        torch.save({"state_dict": {"a": torch.zeros(1)}}, path)
    elif kind == "list":
        torch.save([1, 2], path)
    else:
        torch.save(ToyData, path)


@pytest.mark.parametrize("kind", ["text", "empty", "jpeg", "tensors", "list", "pickle"])
def test_a_foreign_file_is_refused(kind: str, tmp_path: Path) -> None:
    path = tmp_path / "some.ckpt"
    foreign(kind, path)
    with pytest.raises(CheckpointError) as caught:
        read_checkpoint(path)
    message = str(caught.value)
    assert message.startswith(f"{path} is no checkpoint of geoguesser: ")
    assert len(message) > len(f"{path} is no checkpoint of geoguesser: ")
    assert "\n" not in message


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"region": {}}, "KeyError"),
        ({"network": 3}, "TypeError"),
        ({"image": {"width": 3}}, "TypeError"),
    ],
)
def test_a_record_of_nothing_is_refused(
    changes: dict[str, object], reason: str, locator: Predictor, tmp_path: Path
) -> None:
    locator.save(tmp_path / "model.ckpt")
    checkpoint = torch.load(tmp_path / "model.ckpt", weights_only=True)
    checkpoint["geoguesser"] |= changes
    torch.save(checkpoint, tmp_path / "model.ckpt")
    with pytest.raises(CheckpointError, match=rf"model\.ckpt does not describe a model \({reason}: "):
        Predictor.load(tmp_path / "model.ckpt")


def test_tensors_that_do_not_fit_the_record_are_refused(locator: Predictor, tmp_path: Path) -> None:
    path = tmp_path / "model.ckpt"
    locator.save(path)
    checkpoint = torch.load(path, weights_only=True)
    del checkpoint["state_dict"]["network.head.linear.bias"]
    torch.save(checkpoint, path)
    with pytest.raises(CheckpointError) as caught:
        Predictor.load(path)
    assert str(caught.value).startswith(f"{path} does not fit the network that it describes: ")
    assert "head.linear.bias" in str(caught.value)


def test_saving_over_a_file_is_all_or_nothing(
    locator: Predictor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "model.ckpt"
    locator.save(path)
    before = path.read_bytes()

    def broken(_: Any, stream: BinaryIO) -> None:
        stream.write(b"half")
        raise OSError("disk full")

    monkeypatch.setattr(torch, "save", broken)
    with pytest.raises(OSError, match="disk full"):
        locator.save(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


SCRIPT = """
import sys
import numpy as np, torch
from geoguesser.inference.predictor import Predictor
found = Predictor.load(sys.argv[1]).predict_coords(torch.load(sys.argv[2], weights_only=True))
np.save(sys.argv[3], found)
heavy = {"pytorch_lightning", "lightning_fabric", "hydra", "omegaconf"}
print("loaded:", *sorted(heavy.intersection(sys.modules)))
"""


@pytest.mark.slow  # in processes of their own
def test_a_plain_process_needs_neither_lightning_nor_hydra(locator: Predictor, tmp_path: Path) -> None:
    images = toy_places()[1][:3]
    locator.save(tmp_path / "model.ckpt")
    torch.save(images, tmp_path / "images.pt")
    files = [str(tmp_path / name) for name in ("model.ckpt", "images.pt", "found.npy")]
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *files], capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "loaded:\n"
    np.testing.assert_allclose(np.load(tmp_path / "found.npy"), locator.predict_coords(images), atol=1e-5)
