"""Images per second of a bf16 channels-last training step on a GPU, compared with a bare loop, resnext50_32x4d.

    python benchmarks/gpu_step.py

Both train the same network from random weights on uint8 views that lie on the device. Without a GPU all ratios are
null.
"""

from __future__ import annotations

import copy
import statistics
import time
from typing import Any

import pytorch_lightning as pl
import torch
from measure import compute_median_ratio, print_report
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

BATCHES, ROUNDS = 30, 5
PLACES = {112: 128, 224: 48}


def time_epochs(size: int, places: int) -> tuple[list[float], list[float]]:
    """Returns the seconds of each epoch in Lightning and in the bare loop."""
    region = country("HRV", "EPSG:3765")
    backbone = TimmBackbone(name="resnext50_32x4d", pretrained=False)
    fusion = ConcatFusion(backbone.feature_size)
    land = region.land_deg.geoms[0].exterior.coords
    head = ClassificationHead.fit(
        in_features=fusion.output_size, region=region, grid=SquareGrid(size=60), loss=CrossEntropy(),
        train_coords_deg=torch.tensor(list(land)).flip(-1).double().numpy(), decoder=MeanDecoder(),
    )  # fmt: skip
    network = GeoNetwork(backbone, fusion, head)

    images = torch.randint(0, 256, (places, 4, 3, size, size), dtype=torch.uint8, device="cuda")
    index = torch.arange(places, device="cuda")
    mask, coords = torch.ones(places, 4, dtype=torch.bool, device="cuda"), torch.zeros(places, 2, device="cuda")
    batch = Batch(images, mask, coords, index)
    cells = torch.randint(0, head.output_size, (places,))

    bare_network = copy.deepcopy(network).cuda().to(memory_format=torch.channels_last).train()
    bare_cells = cells.cuda()
    optimizer = torch.optim.Adam(bare_network.parameters(), lr=1e-4)
    bare_seconds: list[float] = []

    def bare_epoch() -> None:
        torch.cuda.synchronize()
        start = time.perf_counter()
        for _ in range(BATCHES):
            optimizer.zero_grad()
            with torch.autocast("cuda", torch.bfloat16):
                logits = bare_network(images, mask)
                loss = torch.nn.functional.cross_entropy(logits, bare_cells)
            torch.autograd.backward(loss)
            optimizer.step()
        torch.cuda.synchronize()
        bare_seconds.append(time.perf_counter() - start)

    class EpochTimer(pl.Callback):
        """Times each epoch of Lightning, then runs one of the bare loop."""

        def __init__(self) -> None:
            self.seconds: list[float] = []

        def on_train_epoch_start(self, trainer: Any, pl_module: Any) -> None:
            torch.cuda.synchronize()
            self.start = time.perf_counter()

        def on_train_epoch_end(self, trainer: Any, pl_module: Any) -> None:
            torch.cuda.synchronize()
            self.seconds.append(time.perf_counter() - self.start)
            bare_epoch()

    timer = EpochTimer()
    module = GeoLightningModule(
        network, targets={"cell": cells}, schedule=Constant(),
        optimizer=OptimizerSpec("Adam", lr=1e-4, backbone_lr=1e-4),
        finetuning=Finetuning(stages=[{"epoch": 0, "from": "all"}]), diagonal_km=650.0, record={},
    )  # fmt: skip
    trainer = pl.Trainer(
        accelerator="gpu", devices=1, precision="bf16-mixed", max_epochs=ROUNDS + 1, logger=False,
        callbacks=[timer], enable_checkpointing=False, enable_progress_bar=False, enable_model_summary=False,
    )  # fmt: skip
    batches: Any = [batch] * BATCHES
    trainer.fit(module, DataLoader(batches, batch_size=None))

    # The first epoch of each is a warm-up.
    return timer.seconds[1:], bare_seconds[1:]


def main() -> None:
    filter_logs()
    rows: dict[str, str] = {}
    ratios: dict[str, float | None] = {}
    for size, places in PLACES.items():
        key = f"bare_over_ours_{size}px"
        if not torch.cuda.is_available():
            rows[f"{size} px"], ratios[key] = "no GPU", None
            continue

        lightning, bare = time_epochs(size, places)
        images = BATCHES * places * 4
        rows[f"{size} px, Lightning"] = f"{images / statistics.median(lightning):,.0f} images/s"
        rows[f"{size} px, bare loop"] = f"{images / statistics.median(bare):,.0f} images/s"
        ratios[key] = compute_median_ratio(bare, lightning)

    print_report("bf16 channels-last training step, resnext50_32x4d", rows, ratios)


if __name__ == "__main__":
    main()
