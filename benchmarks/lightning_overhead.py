"""Training step in Lightning compared with a bare torch loop over the same tensors, efficientnet_lite0 unlocked.

    python benchmarks/lightning_overhead.py

Both train copies of one network with Adam on the same batches in the same order. A round is one epoch of each.
"""

from __future__ import annotations

import copy
import time
from typing import Any

import numpy as np
import pytorch_lightning as pl
import torch
from measure import compute_median_ratio, format_median_ms, print_report
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.data.batches import Batch
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country
from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.decoder import MeanDecoder
from geoguesser.model.fusion import ConcatFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.losses import CrossEntropy
from geoguesser.model.network import GeoNetwork
from geoguesser.system.log_filters import filter_logs
from geoguesser.training.finetuning import Finetuning
from geoguesser.training.module import GeoLightningModule
from geoguesser.training.optimizer import OptimizerSpec
from geoguesser.training.schedule import Constant

PLACES, SIZE, BATCHES, ROUNDS = 8, 112, 12, 7


def make_network() -> GeoNetwork:
    region = country("HRV", "EPSG:3765")
    rng = np.random.default_rng(0)
    west, south, east, north = region.land_m.bounds
    points = rng.uniform((west, south), (east, north), (500, 2))

    backbone = TimmBackbone(name="tf_efficientnet_lite0.in1k", source="pip")
    fusion = ConcatFusion(backbone.feature_size)
    head = ClassificationHead.fit(
        in_features=fusion.output_size,
        region=region,
        train_coords_deg=region.snap(region.to_degrees(points)),
        grid=SquareGrid(size=60),
        loss=CrossEntropy(),
        decoder=MeanDecoder(),
    )
    return GeoNetwork(backbone, fusion, head)


def make_batches(classes: int) -> tuple[list[Batch], Tensor]:
    """Returns random batches, and a random cell for each of their places."""
    generator = torch.Generator().manual_seed(0)
    batches = []
    for number in range(BATCHES):
        images = torch.randint(0, 256, (PLACES, 4, 3, SIZE, SIZE), dtype=torch.uint8, generator=generator)
        index = torch.arange(number * PLACES, (number + 1) * PLACES)
        batches.append(Batch(images, torch.ones(PLACES, 4, dtype=torch.bool), torch.zeros(PLACES, 2), index))
    return batches, torch.randint(0, classes, (BATCHES * PLACES,), generator=generator)


class EpochTimer(pl.Callback):
    """Times the batches of each epoch, including the work of Lightning between them."""

    def __init__(self) -> None:
        self.seconds: list[float] = []

    def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
        self.start = time.perf_counter()

    def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.seconds.append(time.perf_counter() - self.start)


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    filter_logs()

    network = make_network()
    batches, cells = make_batches(network.head.output_size)
    bare_network = copy.deepcopy(network).train()
    optimizer = torch.optim.Adam(bare_network.parameters(), lr=1e-4)

    def bare_epoch() -> float:
        start = time.perf_counter()
        for batch in batches:
            optimizer.zero_grad()
            logits = bare_network(batch.images, batch.mask)
            loss = torch.nn.functional.cross_entropy(logits, cells[batch.index])
            torch.autograd.backward(loss)
            optimizer.step()
        return time.perf_counter() - start

    module = GeoLightningModule(
        network,
        targets={"cell": cells},
        optimizer=OptimizerSpec("Adam", lr=1e-4, backbone_lr=1e-4),
        schedule=Constant(),
        finetuning=Finetuning(stages=[{"epoch": 0, "from": "all"}]),
        diagonal_km=650.0,
        record={},
    )
    bare_seconds: list[float] = []

    class BareEpoch(pl.Callback):
        """Runs an epoch of the bare loop after each epoch of Lightning."""

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            bare_seconds.append(bare_epoch())

    timer = EpochTimer()
    trainer = pl.Trainer(
        accelerator="cpu", max_epochs=ROUNDS + 1, logger=False, callbacks=[timer, BareEpoch()],
        enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    batch_source: Any = batches
    trainer.fit(module, DataLoader(batch_source, batch_size=None))

    # The first epoch of each is a warm-up.
    lightning, bare = timer.seconds[1:], bare_seconds[1:]
    ratio = compute_median_ratio(lightning, bare)
    rows = {
        "Lightning, per step": format_median_ms([seconds / BATCHES for seconds in lightning]),
        "bare loop, per step": format_median_ms([seconds / BATCHES for seconds in bare]),
        "overhead": f"{(ratio - 1) * 100:+.1f} %",
    }
    title = f"Training step of {PLACES} places at {SIZE} px, efficientnet_lite0"
    print_report(title, rows, {"lightning_over_bare": ratio})


if __name__ == "__main__":
    main()
