"""Outputs of a whole set of places at once, and what is learnt from them before and after training.

Before: how the head centres and scales what it is given. After: which decoder `decoder=auto` takes.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils.data import DataLoader

from geoguesser.data.batches import Batch, FeatureBatch
from geoguesser.data.datamodule import PlacesData
from geoguesser.inference import predictor as locator
from geoguesser.model.decoder import AutoDecoder, Choice
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.network import GeoNetwork

log = logging.getLogger(__name__)

SCALED_BY = 512  # places at most, where each must be embedded first


class Outputs(NamedTuple):
    """What the head put out.

    Attributes:
        rows: (N,) rows of the table of places, in the loader's order.
        out: (N, C) float32, on the CPU.
    """

    rows: Tensor
    out: Tensor


@torch.no_grad()
def compute_outputs(network: GeoNetwork, loader: DataLoader[Any]) -> Outputs:
    """Runs a network in evaluation over every batch, on the device where it lies.

    Args:
        network: Its mode is put back afterwards.
        loader: Batches of pixels or of features.
    """
    was_training = network.training
    network.eval()
    rows, out = [], []
    for batch in loader:
        rows.append(batch.index)
        out.append(network.head(_fused(network, batch)).float().cpu())
    network.train(was_training)
    return Outputs(torch.cat(rows), torch.cat(out))


def _fused(network: GeoNetwork, batch: Batch | FeatureBatch) -> Tensor:
    device = next(network.head.parameters()).device
    mask = batch.mask.to(device)
    if isinstance(batch, FeatureBatch):
        return network.fusion(batch.features.to(device), mask)
    return network.fusion(network.embed(batch.images.to(device), mask), mask)


@torch.no_grad()
def scale_head(network: GeoNetwork, data: PlacesData, device: torch.device) -> None:
    """Lets the head learn from training places how to centre and scale what it is given.

    From all of them where features are there, else from some, which are embedded for it.

    Args:
        network: A new one; it is left on the CPU, in evaluation.
        data: The places; their views or features are ready.
        device: Where to run.
    """
    network.eval().to(device)
    fused, count = [], 0
    for batch in data.loader("train", shuffle=data.features is None, whole=True):
        fused.append(_fused(network, batch).float().cpu())
        count += len(batch.index)
        if data.features is None and count >= SCALED_BY:
            break
    network.cpu()
    network.head.scale_by(torch.cat(fused))


def choose_decoder(
    network: GeoNetwork, data: PlacesData, best: Path, device: torch.device, *, write: bool
) -> Choice | None:
    """With `decoder=auto` chooses by the validation places, puts the choice into the network and the checkpoint.

    Args:
        network: Its weights become those of the checkpoint.
        data: The places.
        best: The checkpoint of lowest validation error; its record is renewed.
        device: Where to run.
        write: Whether this process writes files.

    Returns:
        The choice; None for any other decoder.
    """
    head = network.head
    if not isinstance(head, ClassificationHead) or not isinstance(head.decoder, AutoDecoder):
        return None
    checkpoint = locator.read_checkpoint(best)
    network.load_state_dict(locator.to_tensors(checkpoint))
    network.to(device)
    found = compute_outputs(network, data.loader("val", whole=True))
    network.cpu()
    coords_deg = torch.from_numpy(data.coords_deg)[found.rows]
    choice = head.decoder.choose(head.posterior(found.out), head.points(found.out), coords_deg)
    head.decoder = choice.decoder
    shown = ", ".join(f"{key} {value}" for key, value in choice.decoder.state().items())
    log.info(
        "decoder=auto: %s (%.1f km on %d validation places; the median as it is %.1f)",
        shown,
        choice.error_km,
        choice.places,
        choice.usual_km,
    )
    if write:
        checkpoint["geoguesser"]["network"]["head"]["decoder"] = choice.decoder.state()
        locator.write_checkpoint(best, checkpoint)
    return choice
