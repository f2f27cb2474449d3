"""Prediction from JPEG files against its two parts alone: decoding all views, and the network's forward pass.

    python benchmarks/predict_speed.py

Files are synthetic street views of 640 pixels (benchmarks/photos.py), read from the page cache. On a CPU the two
parts share the cores, so prediction cannot be as quick as the slower of them unless one of them gets quicker: it
folds BatchNorm, the bare forward pass does not. On a GPU the forward pass leaves the cores to decoding.
"""

from __future__ import annotations

import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import numpy as np
import torch
from measure import interleaved, median_ratio, report
from photos import make_root
from torch import Tensor

from geoguesser.data.images import ImageSpec
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country
from geoguesser.inference.batch_inference import predict_places
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.inputs import InputPlace, find_places, load_place
from geoguesser.inference.predictor import Predictor
from geoguesser.model.backbone import Backbone
from geoguesser.model.decoder import MedianDecoder
from geoguesser.model.fusion import MeanFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.losses import CrossEntropy
from geoguesser.model.network import GeoNetwork
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.system.cpu import count_cores

PLACES, BATCH, ROUNDS = 192, 32, 5


def locator(px: int, device: str) -> Predictor:
    """efficientnet_lite0 with a head of 60 cells that was trained on nothing."""
    region = country("HRV", "EPSG:3765")
    drawn = np.random.default_rng(0).uniform((42.4, 13.5), (46.5, 19.4), (4000, 2))
    backbone = Backbone(name="tf_efficientnet_lite0.in1k", source="pip")
    fusion = MeanFusion(backbone.feature_size)
    head = ClassificationHead.fit(
        in_features=fusion.output_size,
        region=region,
        train_coords_deg=drawn[region.contains(drawn)],
        grid=SquareGrid(size=60),
        loss=CrossEntropy(),
        decoder=MedianDecoder(),
    )
    torch.manual_seed(0)
    with torch.no_grad():
        head.linear.weight.normal_(0.0, 1.0)
    return Predictor(GeoNetwork(backbone, fusion, head).to(device), region, ImageSpec(size=px))


def decode(asked: list[InputPlace], image: ImageSpec) -> list[bool]:
    """All views, on all cores."""
    with ThreadPoolExecutor(count_cores()) as pool:
        return list(pool.map(lambda one: bool(load_place(one, [image]).present.all()), asked))


def forward(who: Predictor, views: Tensor) -> None:
    """The answers for views in memory."""
    for start in range(0, len(views), BATCH):
        who.predict(views[start : start + BATCH])


def compare(px: int, asked: list[InputPlace], device: str) -> dict[str, list[float]]:
    """Seconds of each way."""
    own, quick = locator(px, device), Ensemble([locator(px, device)])
    quick.fold()
    views = torch.from_numpy(np.stack([load_place(one, [own.image]).images[0] for one in asked]))
    ways = {
        "decode": partial(decode, asked, own.image),
        "forward": partial(forward, own, views),
        "folded forward": partial(forward, quick.predictors[0], views),
        "predict": lambda: list(predict_places(quick, asked, batch_size=BATCH)),
    }
    return interleaved(ways, rounds=ROUNDS, warmup=1)


def main() -> None:
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows: dict[str, str] = {}
    ratios: dict[str, float | None] = {}
    with tempfile.TemporaryDirectory() as scratch:
        asked = find_places(str(make_root(Path(scratch), PLACES) / "images"))
        for px in (112, 224):
            seconds = compare(px, asked, device)
            for name, taken in seconds.items():
                rows[f"{name}, {px} px"] = f"{PLACES / float(np.median(taken)):7.1f} places/s"
            slower = [max(pair) for pair in zip(seconds["decode"], seconds["forward"], strict=True)]
            ratios[f"predict_over_slower_{px}"] = median_ratio(slower, seconds["predict"])
            ratios[f"folded_over_forward_{px}"] = median_ratio(seconds["forward"], seconds["folded forward"])
    report(f"{PLACES} places of four views of 640 px, efficientnet_lite0", rows, ratios)


if __name__ == "__main__":
    main()
