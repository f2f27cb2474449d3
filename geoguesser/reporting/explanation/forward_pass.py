"""Forward pass of a trained network over places of its run, from the images of the run."""

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
    """Features, head output and predictions of N places.

    Attributes:
        rows: (N,) indices of the places in the requested list, ascending; places without images are absent.
        features: (N, 4, D) features of the views, zeros for absent views.
        mask: (N, 4) bool, true for views present.
    """

    rows: IntArray
    features: Tensor
    mask: Tensor
    output: HeadOutput
    predictions: Predictions


def run_forward_pass(
    predictor: Predictor, uuids: Sequence[str], sources: Sequence[Source], *, desc: str, batch_size: int = 16
) -> ForwardPass | None:
    """Reads the views of places and runs the network over them; None if no image of any place is found."""
    if not sources:
        return None

    rows: list[int] = []
    parts: list[tuple[Tensor, Tensor]] = []
    with tqdm(total=len(uuids), desc=desc, unit=" places", disable=None) as bar:
        for start in range(0, len(uuids), batch_size):
            batch = uuids[start : start + batch_size]
            pixels = [load_pixels(uuid, sources, predictor.image) for uuid in batch]
            rows += [start + offset for offset, views in enumerate(pixels) if views is not None]
            if present := [views for views in pixels if views is not None]:
                parts.append(embed_views(predictor, present))
            bar.update(len(batch))

    if not rows:
        return None
    features, mask = (torch.cat(part) for part in zip(*parts, strict=True))
    return decode_features(predictor, np.array(rows), features, mask)


@torch.no_grad()
def embed_views(predictor: Predictor, places: Sequence[tuple[ByteArray, BoolArray]]) -> tuple[Tensor, Tensor]:
    """Returns features (B, 4, D) and mask (B, 4) of places given by `load_pixels`, on the CPU."""
    device = next(predictor.network.parameters()).device
    images, mask = (torch.from_numpy(np.stack(part)) for part in zip(*places, strict=True))
    features = predictor.network.embed(images.to(device), mask.to(device))
    return features.float().cpu(), mask


@torch.no_grad()
def decode_features(predictor: Predictor, rows: IntArray, features: Tensor, mask: Tensor) -> ForwardPass:
    """Completes features by the output of the head and the predictions."""
    network = predictor.network
    device = next(network.parameters()).device
    output = decode_output(network.head, network.from_features(features.to(device), mask.to(device)))
    predictions = calibrate(output, predictor.region, network.head.grid, predictor.uncertainty)
    return ForwardPass(rows, features, mask, output, predictions)
