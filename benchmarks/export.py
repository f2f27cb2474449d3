"""Places per second of an exported model: torch, its program of torch.export, ONNX Runtime, on the same views.

python benchmarks/export.py [run=RUN_FOLDER] [threads=1] [places=8]

Without a run: an untrained efficientnet_lite0 over Croatia at 112 px, 60 cells, decoder median. On the CPU.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import interleaved, median_ratio, report

from geoguesser.data.images import ImageSpec
from geoguesser.exporting.programs import export_program, open_onnx, open_torch, write_onnx, write_torch
from geoguesser.exporting.traceable import ExportableNetwork
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country
from geoguesser.inference.predictor import Predictor
from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.decoder import MedianDecoder
from geoguesser.model.fusion import MeanFusion
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.losses import CrossEntropy
from geoguesser.model.network import GeoNetwork

ROUNDS = 15


def untrained() -> Predictor:
    torch.manual_seed(0)
    region = country("HRV", "EPSG:3765")
    random = np.random.default_rng(0)
    places_deg = region.snap(np.stack([random.uniform(42.5, 46.5, 800), random.uniform(13.5, 19.4, 800)], axis=-1))
    backbone = TimmBackbone(name="tf_efficientnet_lite0.in1k", source="pip")
    head = ClassificationHead.fit(
        in_features=backbone.feature_size,
        region=region,
        train_coords_deg=places_deg,
        grid=SquareGrid(size=60),
        loss=CrossEntropy(),
        decoder=MedianDecoder(),
    )
    head.linear.reset_parameters()
    network = GeoNetwork(backbone, MeanFusion(backbone.feature_size), head)
    return Predictor(network, region, ImageSpec(size=112))


def main() -> None:
    asked = dict(word.split("=", 1) for word in sys.argv[1:])
    threads, places = int(asked.get("threads", 1)), int(asked.get("places", 8))
    torch.set_num_threads(threads)
    locator = Predictor.load(asked["run"]) if "run" in asked else untrained()
    network, size = ExportableNetwork(locator.network), locator.image.size
    images = torch.randint(0, 256, (places, 4, 3, size, size), dtype=torch.uint8)
    mask = torch.ones(places, 4, dtype=torch.bool)
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = export_program(network, size)
        write_torch(program, folder / "model.pt2", {})
        write_onnx(program, folder / "model.onnx", {}, network.outputs)
        by_torch, by_onnx = open_torch(folder / "model.pt2"), open_onnx(folder / "model.onnx", threads=threads)
        ways = {
            "torch": lambda: network.reference(images, mask),
            "torch.export": lambda: by_torch(images, mask),
            "ONNX Runtime": lambda: by_onnx(images, mask),
        }
        seconds = interleaved(ways, rounds=ROUNDS)
    rows = {name: f"{places / statistics.median(times):.1f} places/s" for name, times in seconds.items()}
    report(
        f"{places} places of 4 views at {size} px, {locator.network.backbone.name}, to posterior and point",
        rows,
        {
            "torch_export_over_torch": median_ratio(seconds["torch"], seconds["torch.export"]),
            "onnx_over_torch": median_ratio(seconds["torch"], seconds["ONNX Runtime"]),
        },
    )


if __name__ == "__main__":
    main()
