"""Forward and backward pass of 4 B views at once, compared with four passes of B views, efficientnet_lite0.

python benchmarks/four_views.py
"""

from __future__ import annotations

import torch
from measure import compute_median_ratio, format_median_ms, print_report, time_interleaved

from geoguesser.model.backbone import TimmBackbone

PLACES, SIZE = 8, 112


def main() -> None:
    torch.set_num_threads(2)
    torch.manual_seed(0)
    backbone = TimmBackbone(name="tf_efficientnet_lite0.in1k", source="pip").eval()
    backbone.model.to(memory_format=torch.channels_last)
    images = torch.randint(0, 256, (PLACES, 4, 3, SIZE, SIZE), dtype=torch.uint8)

    def at_once() -> None:
        backbone.zero_grad(set_to_none=True)
        features = backbone(images.flatten(0, 1)).unflatten(0, (PLACES, 4))
        torch.autograd.backward(features.square().mean())

    def one_by_one() -> None:
        backbone.zero_grad(set_to_none=True)
        features = torch.stack([backbone(images[:, view]) for view in range(4)], dim=1)
        torch.autograd.backward(features.square().mean())

    seconds = time_interleaved({"4B at once": at_once, "four of B": one_by_one}, rounds=15)
    rows = {name: format_median_ms(times) for name, times in seconds.items()}
    print_report(
        f"Forward and backward of {PLACES} places at {SIZE} px, efficientnet_lite0",
        rows,
        {"four_of_b_over_4b_at_once": compute_median_ratio(seconds["four of B"], seconds["4B at once"])},
    )


if __name__ == "__main__":
    main()
