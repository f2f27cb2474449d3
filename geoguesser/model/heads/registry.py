"""Registry of heads, by the kind that checkpoints record."""

from __future__ import annotations

from typing import Any

from geoguesser.errors import look_up_kind
from geoguesser.geo.region import Region
from geoguesser.model.heads.base import Head
from geoguesser.model.heads.classification import ClassificationHead
from geoguesser.model.heads.hybrid import HybridHead
from geoguesser.model.heads.regression import RegressionHead

HEADS: dict[str, type[Head]] = {head.kind: head for head in (ClassificationHead, HybridHead, RegressionHead)}


def restore_head(region: Region, state: dict[str, Any]) -> Head:
    """Makes the head that `Head.state` described, without its weights, for prediction."""
    return look_up_kind("head", HEADS, state["kind"]).from_state(region, state)
