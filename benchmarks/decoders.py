"""Time of each decoder relative to the backbone's forward pass over the views of the same places.

    python benchmarks/decoders.py

As in an evaluation, the outputs of many batches are decoded together; times are per 32 places. Each round has
other posteriors, because the search for a median takes longer if the median lies next to a class point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import cycle

import numpy as np
import torch
from measure import compute_median_ratio, format_median_ms, print_report, time_interleaved
from torch import Tensor

from geoguesser.geo.distance import to_unit
from geoguesser.model.backbone import TimmBackbone
from geoguesser.model.decoder import DECODERS, Decoder
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.training.module import DECODE_BATCH_SIZE

PLACES, PX, DRAWS = 32, 112, 15
CELLS = (60, 1000)
BATCHES = DECODE_BATCH_SIZE // PLACES


def decode_next(decoder: Decoder, posteriors: Iterator[Tensor], vectors: Tensor) -> Tensor:
    """Decodes the next posteriors into points."""
    return decoder(next(posteriors), vectors)


def main() -> None:
    keep_freed_memory()
    generator = torch.Generator().manual_seed(0)
    backbone = (
        TimmBackbone(name="tf_efficientnet_lite0.in1k", source="pip").eval().to(memory_format=torch.channels_last)
    )
    views = torch.randint(0, 256, (4 * PLACES, 3, PX, PX), dtype=torch.uint8, generator=generator)

    rows: dict[str, str] = {}
    ratios: dict[str, float] = {}
    for cells in CELLS:
        coords = np.random.default_rng(0).uniform((42.4, 13.5), (46.5, 19.4), (cells, 2))
        vectors = torch.from_numpy(to_unit(coords)).float()
        posteriors = torch.softmax(3.0 * torch.randn(DRAWS, DECODE_BATCH_SIZE, cells, generator=generator), dim=-1)

        with torch.no_grad():
            ways: dict[str, Callable[[], Tensor]] = {"backbone": lambda: backbone(views)}
            for kind, decoder in DECODERS.items():
                ways[kind] = partial(decode_next, decoder(), cycle(posteriors), vectors)

            seconds = time_interleaved(ways, rounds=DRAWS)

        for kind in DECODERS:
            seconds[kind] = [value / BATCHES for value in seconds[kind]]
            rows[f"{kind}, {cells} cells"] = format_median_ms(seconds[kind])
            ratios[f"{kind}_{cells}"] = compute_median_ratio(seconds[kind], seconds["backbone"])
        rows[f"backbone, beside {cells} cells"] = format_median_ms(seconds["backbone"])
    print_report(f"{PLACES} places, four views of {PX} px each", rows, ratios)


if __name__ == "__main__":
    main()
