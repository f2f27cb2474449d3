"""What a decoder costs against an evaluation pass from images: each decoder on one batch of 32 places.

python benchmarks/decoders.py
"""

from __future__ import annotations

from functools import partial

import numpy as np
import torch
from measure import interleaved, median_ratio, milliseconds, report

from geoguesser.allocator import keep_freed_memory
from geoguesser.geo.distance import to_unit
from geoguesser.model.backbone import Backbone
from geoguesser.model.decoder import DECODERS

PLACES, PX = 32, 112
CELLS = (60, 1000)


def main() -> None:
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    backbone = (
        Backbone(name="tf_efficientnet_lite0.in1k", source="pip").eval().to(memory_format=torch.channels_last)
    )
    views = torch.randint(0, 256, (4 * PLACES, 3, PX, PX), dtype=torch.uint8, generator=generator)
    rows: dict[str, str] = {}
    ratios: dict[str, float | None] = {}
    for cells in CELLS:
        coords = np.random.default_rng(0).uniform((42.4, 13.5), (46.5, 19.4), (cells, 2))
        vectors = torch.from_numpy(to_unit(coords)).float()
        posterior = torch.softmax(3.0 * torch.randn(PLACES, cells, generator=generator), dim=-1)
        with torch.no_grad():
            ways = {"backbone": lambda: backbone(views)}
            for kind, decoder in DECODERS.items():
                ways[kind] = partial(decoder(), posterior, vectors)
            seconds = interleaved(ways, rounds=15)
        for kind in DECODERS:
            rows[f"{kind}, {cells} cells"] = milliseconds(seconds[kind])
            ratios[f"{kind}_{cells}"] = median_ratio(seconds[kind], seconds["backbone"])
        rows[f"backbone, beside {cells} cells"] = milliseconds(seconds["backbone"])
    report(f"{PLACES} places, four views of {PX} px each", rows, ratios)


if __name__ == "__main__":
    main()
