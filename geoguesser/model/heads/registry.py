"""Which heads there are, for checkpoints."""

from __future__ import annotations

from typing import Any

import numpy as np

from geoguesser.geo.grid import restore_grid
from geoguesser.geo.region import Region
from geoguesser.model.decoder import restore_decoder
from geoguesser.model.heads.classification import ClassificationHead, Head, RegressionHead
from geoguesser.model.heads.hybrid import HybridHead
from geoguesser.model.losses import CrossEntropy


def restore_head(region: Region, state: dict[str, Any]) -> Head:
    """Makes the head that `Head.state` described, without its weights, for prediction.

    A classification head made so has the plain cross entropy as its loss: the loss does not touch
    what a head answers, and is not recorded with it.
    """
    if state["kind"] == "regression":
        return RegressionHead(
            state["in_features"],
            region=region,
            space=state["space"],
            offset=np.asarray(state["offset"], dtype=np.float64),
            scale=state["scale"],
        )
    parts: dict[str, Any] = {
        "grid": restore_grid(region, state["grid"]),
        "loss": CrossEntropy(),
        "decoder": restore_decoder(state["decoder"]),
    }
    if state["kind"] == "hybrid":
        return HybridHead(state["in_features"], **parts, offset_weight=state["offset_weight"])
    return ClassificationHead(state["in_features"], **parts)
