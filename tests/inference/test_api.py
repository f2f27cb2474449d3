"""Python interface: an exported folder predicts exactly what its run predicts, and wrong input is explained."""

from __future__ import annotations

import hashlib
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from support.pictures import make_picture
from support.toy_locators import check_same_answers, make_calibrated_locator
from support.toy_run import IMAGE, REGION, fit_head, toy_network, toy_places

import geoguesser
from geoguesser.data.images import ImageSpec
from geoguesser.errors import CheckpointError, ConfigError, DataError, MissingFileError
from geoguesser.geo.grid_builders import PyramidGrid
from geoguesser.geo.region import SphereRegion
from geoguesser.inference.api import Model
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.predictor import Predictor
from geoguesser.inference.saved_model import (
    CONFIG_NAME,
    MODEL_KEYS,
    WEIGHTS_NAME,
    find_network_file,
    write_model_folder,
)
from geoguesser.model.decoder import MedianDecoder
from geoguesser.model.heads.regression import RegressionHead


@pytest.fixture(scope="module")
def locator() -> Predictor:
    return make_calibrated_locator()


@pytest.fixture(scope="module")
def folder(locator: Predictor, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("portable")
    write_model_folder(locator, path, {"license": "mit", "synthetic": True})
    return path


def test_a_folder_predicts_exactly_what_its_predictor_predicts(locator: Predictor, folder: Path) -> None:
    assert sorted(file.name for file in folder.iterdir()) == [CONFIG_NAME, WEIGHTS_NAME]
    model = geoguesser.load(folder)
    assert isinstance(model, geoguesser.Model)
    images = toy_places()[1]
    mask = torch.rand(images.shape[:2], generator=torch.Generator().manual_seed(0)) < 0.7
    mask[:, 0] = True
    expected = locator.predict(images, mask)
    check_same_answers(model.predict(images, mask=mask), expected)
    check_same_answers(model.predict(images.numpy(), mask=mask.numpy(), batch_size=28), expected)
    assert "90" in (expected.radius_km or {})
    assert np.ptp(expected.coords_deg, axis=0).min() > 0.01
    assert len(model.predict(images, batch_size=5)) == len(images)
    assert (model.region.name, model.image, model.about["license"]) == ("Toyland", IMAGE, "mit")
    assert model.grid.num_cells == locator.network.head.grid.num_cells


@pytest.mark.parametrize("kind", ["regression", "world", "pyramid"])
def test_other_heads_and_regions_survive_the_folder(kind: str, tmp_path: Path) -> None:
    network, region = toy_network(), SphereRegion() if kind == "world" else REGION
    size, places_deg = network.fusion.output_size, toy_places()[0]
    if kind == "pyramid":
        network.head = fit_head(size, places_deg, grid=PyramidGrid(sizes=(4, 16)), decoder=MedianDecoder())
    else:
        space = "sphere" if kind == "world" else "crs"
        network.head = fit_head(size, places_deg, RegressionHead, region=region, space=space)

    expected = Predictor(network, region, ImageSpec(size=32, fit="squash"))
    write_model_folder(expected, tmp_path, {})
    images = toy_places()[1][:4]
    model = geoguesser.load(tmp_path)
    check_same_answers(model.predict(images), expected.predict(images))
    assert model.image.fit == "squash"


def test_a_run_and_a_checkpoint_are_models_too(locator: Predictor, folder: Path, tmp_path: Path) -> None:
    checkpoint = tmp_path / "checkpoints" / "best.ckpt"
    checkpoint.parent.mkdir()
    locator.save(checkpoint)
    images = toy_places()[1][:3]
    for path in (tmp_path, str(checkpoint)):
        check_same_answers(geoguesser.load(path).predict(images), locator.predict(images))
        assert find_network_file(path) == checkpoint
    assert find_network_file(folder) == folder / WEIGHTS_NAME
    assert Ensemble.load([folder, checkpoint]).grid is not None
    for read in (geoguesser.load, find_network_file):
        with pytest.raises(MissingFileError, match=r"must be a run folder with checkpoints/best\.ckpt"):
            read(tmp_path / "nothing")


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("photos")
    for name, headings in (("b", (0, 90, 180, 270)), ("a", (90,))):
        (root / name).mkdir()
        for heading in headings:
            make_picture(heading, 48, 64).save(root / name / f"{heading}.png")
    return root


def test_paths_photos_and_pixels_give_the_same_predictions(photos: Path, folder: Path) -> None:
    model = geoguesser.load(folder)
    assert model.ids(photos) == ["a", "b"]
    by_folder = model.predict(str(photos))
    check_same_answers(model.predict([photos / "a", photos / "b"]), by_folder)
    paths = [{90: photos / "a" / "90.png"}, {at: photos / "b" / f"{at}.png" for at in (0, 90, 180, 270)}]
    opened = [{heading: Image.open(path) for heading, path in place.items()} for place in paths]
    check_same_answers(model.predict(paths), by_folder)
    check_same_answers(model.predict(opened), by_folder)
    pixels = np.zeros((2, 4, 3, 48, 64), dtype=np.uint8)
    for row, place in enumerate(opened):
        for heading, photo in place.items():
            pixels[row, heading // 90] = np.asarray(photo).transpose(2, 0, 1)
    check_same_answers(model.predict(pixels, mask=pixels.any(axis=(2, 3, 4))), by_folder)
    np.testing.assert_allclose(model.predict(paths[0]).coords_deg, by_folder.coords_deg[:1], atol=1e-4)


VIEWS = np.zeros((1, 4, 3, 8, 8), np.uint8)
WRONG: list[tuple[Any, dict[str, Any], type[Exception], str]] = [
    (None, {}, ConfigError, r"^images must be a path or several, .*, got 'NoneType'\.$"),
    ([], {}, ConfigError, r"^images must be a path or several"),
    (np.zeros((1, 4, 3, 8, 8)), {}, ConfigError, r"^images must be uint8 pixels .*, got 'float64 \(1, 4, 3, 8"),
    (np.zeros((1, 3, 4, 8, 8), np.uint8), {}, ConfigError, r"got 'uint8 \(1, 3, 4, 8, 8\)'"),
    (np.zeros((0, 4, 3, 8, 8), np.uint8), {}, ConfigError, r"got 'uint8 \(0, 4, 3, 8, 8\)'"),
    (VIEWS, {"mask": np.zeros((1, 4), bool)}, DataError, r"^mask\[0\] must be true somew"),
    (VIEWS, {"mask": np.ones((2, 4), bool)}, ConfigError, r"^mask must be bool \(1, 4\)"),
    (VIEWS, {"mask": "all"}, ConfigError, r"^mask must be bool \(1, 4\), true where .*, got 'str'"),
    ([VIEWS], {}, ConfigError, r"^images must be a path or several, .*, got 'a ndarray among them'"),
    (VIEWS, {"batch_size": 0}, ConfigError, r"^batch_size must be a positive"),
    ({0: "no.jpg"}, {}, DataError, r"^no\.jpg cannot be read"),
    ({45: "a.jpg"}, {}, ConfigError, r"^images\[0\] must map some of \(0, 90, 180, 270\) to photos, got \['45'\]"),
    ([{0: 3}], {}, ConfigError, r"^images\[0\]\[0\] must be a path or a PIL image, got 'int'"),
    ("nowhere", {}, MissingFileError, r"^images=nowhere must be there"),
    ("nowhere", {"mask": np.ones((1, 4), bool)}, ConfigError, r"^mask can only be given with pixels"),
]  # fmt: skip


@pytest.mark.parametrize(("images", "more", "kind", "message"), WRONG)
def test_wrong_input_is_explained(
    images: Any, more: dict[str, Any], kind: type[Exception], message: str, folder: Path
) -> None:
    with pytest.raises(kind, match=message):
        geoguesser.load(folder).predict(images, **more)


def test_a_broken_photo_is_named(photos: Path, folder: Path, tmp_path: Path) -> None:
    (tmp_path / "0.jpg").write_bytes((photos / "b" / "0.png").read_bytes()[:99])
    model = geoguesser.load(folder)
    with pytest.raises(DataError, match=r"^images must be .*: 0\.jpg"):
        model.predict(tmp_path)
    with pytest.raises(DataError, match=r"0\.jpg is not a complete image"):
        model.predict({0: tmp_path / "0.jpg"})


def copied(folder: Path, to: Path, **changes: Any) -> Path:
    """Copies the folder with other values in config.json and the digest that fits them."""
    to.mkdir(exist_ok=True)
    (to / WEIGHTS_NAME).write_bytes((folder / WEIGHTS_NAME).read_bytes())
    config = json.loads((folder / CONFIG_NAME).read_text()) | changes
    text = json.dumps([config[name] for name in MODEL_KEYS], sort_keys=True)
    config["description_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (to / CONFIG_NAME).write_text(json.dumps(config))
    return to


def refused(folder: Path) -> str:
    with pytest.raises(CheckpointError) as caught:
        geoguesser.load(folder)
    return str(caught.value).replace(str(folder), "FOLDER")


@pytest.mark.parametrize(
    ("changes", "rule"),
    [
        ({"format": 2}, "must have a format up to 1, got 2"),
        ({"views": {"size": 3, "fit": "crop"}}, r"does not describe a model \(ConfigError: image.size must be"),
        ({"region": {}}, r"does not describe a model \(KeyError: 'kind'"),
        (
            {"network": {"backbone": {"kind": "timm", "name": "hf-hub:a/b", "mean": [0], "std": [1]}}},
            "does not describe a model .*backbone.name must be a model that timm .*got 'hf-hub:a/b'",
        ),
    ],
)
def test_a_description_without_a_known_model_is_refused(
    changes: dict[str, Any], rule: str, folder: Path, tmp_path: Path
) -> None:
    assert re.search(rf"^FOLDER/config\.json {rule}", refused(copied(folder, tmp_path, **changes)))


def test_a_damaged_folder_is_refused(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    data = bytearray((copy / WEIGHTS_NAME).read_bytes())
    data[-1] ^= 1
    (copy / WEIGHTS_NAME).write_bytes(data)
    assert refused(copy).startswith("FOLDER/model.safetensors is damaged or of another model: its SHA-256 ")
    (copy / WEIGHTS_NAME).write_bytes(b"no tensors")
    digest = hashlib.sha256(b"no tensors").hexdigest()
    (copy / CONFIG_NAME).write_text(json.dumps({"format": 1, "weights_sha256": digest}))
    assert refused(copy).startswith("FOLDER/model.safetensors holds no tensors (")
    for text in ("{", "[]", "{}", '{"format": "a"}', '{"format": 0}', "[" * 100_000):
        (copy / CONFIG_NAME).write_text(text)
        assert refused(copy).startswith("FOLDER/config.json is no description of a model (")
    copied(folder, tmp_path)
    (copy / WEIGHTS_NAME).unlink()
    with pytest.raises(MissingFileError, match=r"model\.safetensors must lie beside config\.json"):
        geoguesser.load(copy)
    (copy / CONFIG_NAME).rename(copy / "other.json")
    (copy / WEIGHTS_NAME).touch()
    with pytest.raises(MissingFileError, match=r"must hold config\.json beside model\.safetensors"):
        geoguesser.load(copy)


@pytest.mark.parametrize(
    "changes", [{"calibration": {"scale": 99.0}}, {"calibration": {}}, {"views": {"size": 64}}, {"data": 7}]
)
def test_a_description_that_was_changed_is_refused(changes: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    config = json.loads((copy / CONFIG_NAME).read_text()) | changes
    (copy / CONFIG_NAME).write_text(json.dumps(config))
    assert refused(copy).startswith("FOLDER/config.json is damaged")


def test_the_licence_may_be_changed_by_hand(folder: Path, tmp_path: Path) -> None:
    copy = copied(folder, tmp_path)
    config = json.loads((copy / CONFIG_NAME).read_text()) | {"license": "cc0-1.0"}
    (copy / CONFIG_NAME).write_text(json.dumps(config, indent=7))
    assert geoguesser.load(copy).about["license"] == "cc0-1.0"


@pytest.mark.parametrize("path", [None, 5, b"model", [], ""])
def test_a_value_that_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(ConfigError, match=r"^path must name a folder"):
        geoguesser.load(path)


def test_an_absent_device_is_named(folder: Path) -> None:
    with pytest.raises(ConfigError, match=r"^device must be auto or a device of this machine, got 'nope'\.$"):
        geoguesser.load(folder, device="nope")


@pytest.mark.parametrize(
    ("name", "value", "rule"),
    [
        ("network.head.linear.bias", None, r'Missing key\(s\) in state_dict: "head\.linear\.bias"'),
        ("network.head.linear.bias", torch.zeros(1), r"size mismatch for head\.linear\.bias"),
        ("network.more", torch.zeros(1), r'Unexpected key\(s\) in state_dict: "more"'),
        ("config.region.land_wkb", None, r"lacks the tensor config\.region\.land_wkb"),
    ],
)
def test_missing_and_mismatched_tensors_are_named(
    name: str, value: torch.Tensor | None, rule: str, folder: Path, tmp_path: Path
) -> None:
    tensors = load_file(folder / WEIGHTS_NAME) | {name: value}
    save_file({key: tensor for key, tensor in tensors.items() if tensor is not None}, tmp_path / WEIGHTS_NAME)
    digest = hashlib.sha256((tmp_path / WEIGHTS_NAME).read_bytes()).hexdigest()
    config = json.loads((folder / CONFIG_NAME).read_text()) | {"weights_sha256": digest}
    (tmp_path / CONFIG_NAME).write_text(json.dumps(config))
    assert re.search(rf"(?s)^FOLDER/model\.safetensors .*{rule}", refused(tmp_path))


SCRIPT = """
import sys
import geoguesser
assert not {"torch", "numpy"} & set(sys.modules), "import geoguesser is heavy"
assert {"load", "Model", "__version__"} <= set(dir(geoguesser))
import numpy as np
answers = geoguesser.load(sys.argv[1]).predict(np.load(sys.argv[2]))
np.save(sys.argv[3], answers.coords_deg)
heavy = {"pytorch_lightning", "lightning_fabric", "hydra", "omegaconf"}
print("loaded:", *sorted(heavy.intersection(sys.modules)))
"""


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["folder", "checkpoint"])
def test_prediction_needs_neither_lightning_nor_hydra(
    kind: str, locator: Predictor, folder: Path, tmp_path: Path
) -> None:
    images = toy_places()[1][:3].numpy()
    np.save(tmp_path / "images.npy", images)
    locator.save(tmp_path / "model.ckpt")
    path = folder if kind == "folder" else tmp_path / "model.ckpt"
    words = [path, tmp_path / "images.npy", tmp_path / "coords.npy"]
    process = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], capture_output=True, text=True, check=False, timeout=300
    )
    assert (process.returncode, process.stdout) == (0, "loaded:\n"), process.stderr
    expected = geoguesser.load(path).predict(images).coords_deg
    np.testing.assert_allclose(np.load(tmp_path / "coords.npy"), expected, atol=1e-5)


def test_unknown_attributes_of_the_package_are_refused() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'lode'"):
        geoguesser.lode  # noqa: B018
    assert geoguesser.Model is Model
