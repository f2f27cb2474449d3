"""Tiny country, network and datamodule for tests of training."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytorch_lightning as pl
import shapely
import torch
from shapely.geometry import MultiPolygon
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.data.batches import PlaceSampler, PlacesDataset
from geoguesser.data.images import ImageSpec
from geoguesser.data.views import MemoryViews
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import PlaneRegion, Region
from geoguesser.inference.checkpoint import make_record
from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.decoder import MeanDecoder
from geoguesser.model.fusion import MeanFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.heads.regression import RegressionHead
from geoguesser.model.losses import CrossEntropy
from geoguesser.model.network import GeoNetwork
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.module import GeoLightningModule
from geoguesser.training.optimizer import OptimizerSpec
from geoguesser.training.schedule import Constant, Schedule

REGION = PlaneRegion("Toyland", MultiPolygon([shapely.box(15.0, 45.0, 16.0, 45.7)]), "EPSG:3765")
IMAGE = ImageSpec(size=32)
TRAIN, VAL, TEST = 16, 7, 5
HEAD_ONLY = [{"epoch": 0, "from": "head"}]
STAGED = [
    {"epoch": 0, "from": "head"},
    {"epoch": 1, "from": "last_1", "lr": 3e-3},
    {"epoch": 3, "from": "layer3"},
]


def toy_places() -> tuple[np.ndarray[Any, Any], Tensor]:
    """Makes (N, 2) coordinates and (N, 4, 3, 32, 32) views whose brightness depends on the place."""
    rng = np.random.default_rng(0)
    count = TRAIN + VAL + TEST
    coords = np.stack([rng.uniform(45.0, 45.7, count), rng.uniform(15.0, 16.0, count)], axis=-1)
    pixels = rng.integers(0, 60, (count, 4, 3, 32, 32))
    pixels[:, :, 0] += np.round((coords[:, 0] - 45.0) / 0.7 * 195).astype(int)[:, None, None, None]
    pixels[:, :, 1] += np.round((coords[:, 1] - 15.0) * 195).astype(int)[:, None, None, None]
    return coords, torch.from_numpy(pixels.astype(np.uint8))


def draw_places(count: int, seed: int = 0) -> np.ndarray[Any, Any]:
    """Draws (count, 2) coordinates of places in the toy country."""
    rng = np.random.default_rng(seed)
    return np.stack([rng.uniform(45.0, 45.7, count), rng.uniform(15.0, 16.0, count)], axis=-1)


def fit_head(
    in_features: int, places_deg: Any, kind: Any = ClassificationHead, *, region: Region = REGION, **options: Any
) -> Any:
    """Fits a head; one with cells has a grid of 9 cells, cross-entropy and a mean decoder unless given."""
    if kind is not RegressionHead:
        options = {"grid": SquareGrid(size=9), "loss": CrossEntropy(), "decoder": MeanDecoder(), **options}
    return kind.fit(in_features=in_features, region=region, train_coords_deg=places_deg, **options)


class ToyData(pl.LightningDataModule):
    """Datamodule of the toy places in memory, or of their features if given."""

    def __init__(self, *, batch_size: int = 4, features: Tensor | None = None) -> None:
        super().__init__()
        self.coords_deg, self.pixels = toy_places()
        self.batch_size = batch_size
        self.features = features
        ends = np.cumsum([TRAIN, VAL, TEST])
        self.rows = {
            "train": np.arange(ends[0]),
            "val": np.arange(ends[0], ends[1]),
            "test": np.arange(ends[1], ends[2]),
            "all": np.arange(ends[2]),
        }

    def loader(self, name: str, *, shuffle: bool = False) -> DataLoader[Any]:
        dataset = PlacesDataset(
            self.rows[name],
            views=MemoryViews(self.pixels),
            features=self.features,
            mask=torch.ones(len(self.coords_deg), 4, dtype=torch.bool),
            coords_deg=self.coords_deg,
        )
        sampler = PlaceSampler(len(dataset), seed=0 if shuffle else None, rank=0, world_size=1)
        return DataLoader(dataset, batch_size=self.batch_size, sampler=sampler, collate_fn=lambda batch: batch)

    def train_dataloader(self) -> DataLoader[Any]:
        return self.loader("train", shuffle=True)

    def val_dataloader(self) -> DataLoader[Any]:
        return self.loader("val")

    def test_dataloader(self) -> DataLoader[Any]:
        return self.loader("test")


def toy_network(name: str = "test_resnet") -> GeoNetwork:
    torch.manual_seed(0)
    backbone = TimmBackbone(name=name, pretrained=False)
    fusion = MeanFusion(backbone.feature_size)
    head = fit_head(fusion.output_size, toy_places()[0][:TRAIN])

    # A new head answers the same for every place.
    torch.manual_seed(1)
    head.linear.reset_parameters()
    return GeoNetwork(backbone, fusion, head)


def toy_features(network: GeoNetwork) -> Tensor:
    with torch.no_grad():
        return network.eval().embed(toy_places()[1], torch.ones(TRAIN + VAL + TEST, 4, dtype=torch.bool))


def toy_module(
    *,
    network: GeoNetwork | None = None,
    stages: list[dict[str, Any]] | None = None,
    batchnorm: str = "frozen",
    optimizer: OptimizerSpec | None = None,
    schedule: Schedule | None = None,
    results_file: str | None = None,
) -> GeoLightningModule:
    network = network or toy_network()
    record = make_record(network, REGION, IMAGE) | {"config": {"seed": 0, "data": {"batch_size": 4}}}
    return GeoLightningModule(
        network,
        targets=network.head.targets(toy_places()[0]),
        optimizer=optimizer or OptimizerSpec("SGD", lr=1e-2, backbone_lr=1e-3, momentum=0.9),
        schedule=schedule or Constant(),
        finetuning=Finetuning(stages=stages or HEAD_ONLY, batchnorm=batchnorm),
        diagonal_km=REGION.diagonal_km,
        record=record,
        results_file=results_file,
    )


def toy_trainer(folder: Path, *, epochs: int = 2, callbacks: list[Any] | None = None, **more: Any) -> pl.Trainer:
    return pl.Trainer(
        **{
            "accelerator": "cpu",
            "max_epochs": epochs,
            "logger": False,
            "callbacks": callbacks or [],
            "enable_checkpointing": any("Checkpoint" in type(one).__name__ for one in callbacks or []),
            "enable_progress_bar": False,
            "enable_model_summary": False,
            "num_sanity_val_steps": 0,
            "default_root_dir": str(folder),
        }
        | more
    )


class LearningRateRecorder(pl.Callback):
    """Callback that records the learning rates of each optimizer step."""

    def __init__(self) -> None:
        self.rates: list[dict[str, float]] = []

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        self.rates.append({group["name"]: group["lr"] for group in optimizer.param_groups})


class CheckpointCopier(pl.Callback):
    """Callback that copies last.ckpt to kept.ckpt at the start of an epoch."""

    def __init__(self, folder: str, epoch: int) -> None:
        self.folder, self.epoch = folder, epoch

    def on_train_epoch_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        if trainer.current_epoch == self.epoch:
            shutil.copy(f"{self.folder}/last.ckpt", f"{self.folder}/kept.ckpt")


def is_plain(value: Any) -> bool:
    """Returns whether a checkpoint's value consists of builtin types and tensors only."""
    if isinstance(value, dict):
        return all(isinstance(key, str | int) and is_plain(one) for key, one in value.items())
    if isinstance(value, list | tuple):
        return all(is_plain(one) for one in value)
    return value is None or type(value) in (str, int, float, bool, torch.Tensor)
