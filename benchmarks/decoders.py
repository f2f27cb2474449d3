"""What a decoder costs against an evaluation pass from images, of which the backbone's forward is taken alone.

    python benchmarks/decoders.py

An evaluation decodes the outputs of many batches together; so does this, and shows the time per 32 places.
Each round has posteriors of its own, for where a median lies next to a class point a search may take longer.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import cycle

import numpy as np
import torch
from measure import interleaved, median_ratio, milliseconds, report
from torch import Tensor

from geoguesser.geo.distance import to_unit
from geoguesser.model.backbone import Backbone
from geoguesser.model.decoder import DECODERS, Decoder
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.training.module import DECODE_BATCH_SIZE

PLACES, PX, DRAWS = 32, 112, 15
CELLS = (60, 1000)
BATCHES = DECODE_BATCH_SIZE // PLACES


def decode_next(decoder: Decoder, posteriors: Iterator[Tensor], vectors: Tensor) -> Tensor:
    """The points of the next places."""
    return decoder(next(posteriors), vectors)


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
        drawn = torch.softmax(3.0 * torch.randn(DRAWS, DECODE_BATCH_SIZE, cells, generator=generator), dim=-1)
        with torch.no_grad():
            ways = {"backbone": lambda: backbone(views)}
            for kind, decoder in DECODERS.items():
                ways[kind] = partial(decode_next, decoder(), cycle(drawn), vectors)
            seconds = interleaved(ways, rounds=DRAWS)
        for kind in DECODERS:
            seconds[kind] = [taken / BATCHES for taken in seconds[kind]]
            rows[f"{kind}, {cells} cells"] = milliseconds(seconds[kind])
            ratios[f"{kind}_{cells}"] = median_ratio(seconds[kind], seconds["backbone"])
        rows[f"backbone, beside {cells} cells"] = milliseconds(seconds["backbone"])
    report(f"{PLACES} places, four views of {PX} px each", rows, ratios)


if __name__ == "__main__":
    main()
