"""A trained network looks at places of its run again: features, answers, posteriors, from the images of the run.

Which places, and whether their images are still there, is said by what it returns. Nothing here draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from geoguesser.arrays import BoolArray, ByteArray, IntArray
from geoguesser.inference.predictions import Predictions, calibrate
from geoguesser.inference.predictor import Predictor
from geoguesser.model.uncertainty import HeadOutput, decode_output
from geoguesser.runs.run_images import Source, load_pixels


@dataclass(frozen=True)
class ForwardPass:
    """What the network makes of N places.

    Attributes:
        at: (N,) which of the places asked for these are, ascending.
        features: (N, 4, D) of their views, zeros for absent ones.
        mask: (N, 4) bool, true where there is a view.
        said: What the head says of them.
        answers: The same, completed by the run's calibration.
    """

    at: IntArray
    features: Tensor
    mask: Tensor
    said: HeadOutput
    answers: Predictions


def run_forward_pass(
    locator: Predictor, uuids: Sequence[str], sources: Sequence[Source], *, what: str, batch_size: int = 16
) -> ForwardPass | None:
    """Reads the views of places and runs the network over them.

    Args:
        locator: The trained network.
        uuids: The places' ids.
        sources: Where their views may lie.
        what: For the progress bar.
        batch_size: Places at once.

    Returns:
        None where no view of any of them is there.
    """
    at: list[int] = []
    features: list[Tensor] = []
    masks: list[Tensor] = []
    if not sources:
        return None
    with tqdm(total=len(uuids), desc=what, unit=" places", disable=None) as bar:
        for start in range(0, len(uuids), batch_size):
            some = [load_pixels(uuid, sources, locator.image) for uuid in uuids[start : start + batch_size]]
            there = [number for number, one in enumerate(some) if one is not None]
            if there:
                at += [start + number for number in there]
                found, mask = embed_views(locator, [one for one in some if one is not None])
                features.append(found)
                masks.append(mask)
            bar.update(len(some))
    if not at:
        return None
    return decode_features(locator, np.array(at), torch.cat(features), torch.cat(masks))


@torch.no_grad()
def embed_views(locator: Predictor, places: Sequence[tuple[ByteArray, BoolArray]]) -> tuple[Tensor, Tensor]:
    """(B, 4, D) features and (B, 4) mask of places as `load_pixels` gives them, on the CPU."""
    device = next(locator.network.parameters()).device
    images, mask = (torch.from_numpy(np.stack(part)) for part in zip(*places, strict=True))
    features = locator.network.embed(images.to(device), mask.to(device))
    return features.float().cpu(), mask


@torch.no_grad()
def decode_features(locator: Predictor, at: IntArray, features: Tensor, mask: Tensor) -> ForwardPass:
    """Completes features by what the head makes of them."""
    network = locator.network
    device = next(network.parameters()).device
    said = decode_output(network.head, network.from_features(features.to(device), mask.to(device)))
    answers = calibrate(said, locator.region, network.head.grid, locator.uncertainty)
    return ForwardPass(at, features, mask, said, answers)
