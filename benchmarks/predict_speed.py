"""Prediction from JPEG files compared with its two parts: decoding of all views, and the forward pass.

    python benchmarks/predict_speed.py

Files are synthetic street views of 640 pixels (benchmarks/photos.py), read from the page cache. On a CPU both
parts share the cores, so prediction reaches the speed of the slower part only by folding BatchNorm, which the bare
forward pass does not. On a GPU the forward pass leaves the cores to decoding.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from measure import compute_median_ratio, print_report, time_interleaved
from photos import make_root
from torch import Tensor

from geoguesser.data.images import ImageSpec
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country
from geoguesser.inference.batch_inference import predict_places
from geoguesser.inference.ensemble import Ensemble
from geoguesser.inference.inputs import InputPlace, find_places, load_place
from geoguesser.inference.predictor import Predictor
from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.decoder import MedianDecoder
from geoguesser.model.fusion import MeanFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.losses import CrossEntropy
from geoguesser.model.network import GeoNetwork
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.system.cpu import count_cores

PLACES, BATCH, ROUNDS = 192, 32, 5


def make_predictor(px: int, device: str) -> Predictor:
    """Makes an efficientnet_lite0 with an untrained head of 60 cells."""
    region = country("HRV", "EPSG:3765")
    drawn = np.random.default_rng(0).uniform((42.4, 13.5), (46.5, 19.4), (4000, 2))
    backbone = TimmBackbone(name="tf_efficientnet_lite0.in1k", source="pip")
    fusion = MeanFusion(backbone.feature_size)
    head = ClassificationHead.fit(
        in_features=fusion.output_size,
        region=region,
        train_coords_deg=drawn[region.contains(drawn)],
        grid=SquareGrid(size=60),
        loss=CrossEntropy(),
        decoder=MedianDecoder(),
    )

    # Zero weights, with which the head starts, would give all places the same posterior.
    torch.manual_seed(0)
    with torch.no_grad():
        head.linear.weight.normal_(0.0, 1.0)

    return Predictor(GeoNetwork(backbone, fusion, head).to(device), region, ImageSpec(size=px))


def decode(places: list[InputPlace], image: ImageSpec) -> list[bool]:
    """Decodes all views on all cores."""
    with ThreadPoolExecutor(count_cores()) as pool:
        return list(pool.map(lambda place: bool(load_place(place, [image]).present.all()), places))


def forward(predictor: Predictor, views: Tensor) -> None:
    """Predicts from views in memory."""
    for start in range(0, len(views), BATCH):
        predictor.predict(views[start : start + BATCH])


def time_ways(px: int, places: list[InputPlace], device: str) -> dict[str, list[float]]:
    """Returns the seconds of each way."""
    predictor, ensemble = make_predictor(px, device), Ensemble([make_predictor(px, device)])
    ensemble.fold()

    views = torch.from_numpy(np.stack([load_place(place, [predictor.image]).images[0] for place in places]))
    ways: dict[str, Callable[[], Any]] = {
        "decode": partial(decode, places, predictor.image),
        "forward": partial(forward, predictor, views),
        "folded forward": partial(forward, ensemble.predictors[0], views),
        "predict": lambda: list(predict_places(ensemble, places, batch_size=BATCH)),
    }
    return time_interleaved(ways, rounds=ROUNDS, warmup=1)


def main() -> None:
    keep_freed_memory()
    device = "cuda" if torch.cuda.is_available() else "cpu"
    rows: dict[str, str] = {}
    ratios: dict[str, float] = {}

    with tempfile.TemporaryDirectory() as scratch:
        places = find_places(str(make_root(Path(scratch), PLACES) / "images"))
        for px in (112, 224):
            seconds = time_ways(px, places, device)
            for name, times in seconds.items():
                rows[f"{name}, {px} px"] = f"{PLACES / float(np.median(times)):7.1f} places/s"

            slower = [max(pair) for pair in zip(seconds["decode"], seconds["forward"], strict=True)]
            ratios[f"predict_over_slower_{px}"] = compute_median_ratio(slower, seconds["predict"])
            ratios[f"folded_over_forward_{px}"] = compute_median_ratio(
                seconds["forward"], seconds["folded forward"]
            )
    print_report(f"{PLACES} places of four views of 640 px, efficientnet_lite0", rows, ratios)


if __name__ == "__main__":
    main()
