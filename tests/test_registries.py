"""Registries: a checkpoint with a kind that no imported module registers is refused with the known kinds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest
from support.toy_run import REGION

from geoguesser.errors import CheckpointError, UnknownKindError
from geoguesser.geo.cells.factory import CELLS, restore_cells
from geoguesser.model.backbone import BACKBONES, restore_backbone
from geoguesser.model.decoder import DECODERS, restore_decoder
from geoguesser.model.fusion import FUSIONS, restore_fusion
from geoguesser.model.heads.registry import HEADS, restore_head

STATE = {"kind": "crystal_ball"}
REGISTRIES = {
    "backbone": (BACKBONES, lambda: restore_backbone(STATE)),
    "fusion": (FUSIONS, lambda: restore_fusion(STATE, 8)),
    "head": (HEADS, lambda: restore_head(REGION, STATE)),
    "decoder": (DECODERS, lambda: restore_decoder(STATE)),
    "grid.cells": (CELLS, lambda: restore_cells(STATE)),
}


@pytest.mark.parametrize("part", REGISTRIES)
def test_an_unknown_kind_is_refused_with_the_known_kinds(part: str) -> None:
    kinds: Mapping[str, Any]
    restore: Callable[[], Any]
    kinds, restore = REGISTRIES[part]
    with pytest.raises(UnknownKindError, match=rf"^{part}\.kind must be one of .*, got 'crystal_ball'") as caught:
        restore()
    assert isinstance(caught.value, CheckpointError)
    assert all(kind in str(caught.value) for kind in kinds)


@pytest.mark.parametrize("part", REGISTRIES)
def test_a_registered_kind_is_restored(part: str, monkeypatch: pytest.MonkeyPatch) -> None:
    class CrystalBall:
        def __new__(cls, **values: Any) -> Any:
            return "restored"

        @classmethod
        def from_state(cls, *arguments: Any) -> Any:
            return "restored"

    kinds, restore = REGISTRIES[part]
    monkeypatch.setitem(kinds, "crystal_ball", CrystalBall)
    assert restore() == "restored"
