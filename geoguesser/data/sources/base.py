"""Declaration of a data source: its label, its folders, its private keys, and where its images are found again.

Readers of a recorded config get it from `source_from_config`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

DataNode = Mapping[str, Any]


def _find_demo(data: DataNode) -> list[Path]:
    # The demo draws with OpenCV, which readers of a config need not load.
    from geoguesser.data.demo.dataset import get_demo_folder

    return [get_demo_folder(places=int(data["places"]), seed=int(data["demo_seed"]), px=int(data["px"]))]


@dataclass(frozen=True, kw_only=True)
class SourceKind:
    """Declaration of a kind of data source.

    A user's own source is a class (or function) with an attribute `source` that holds a declaration.

    Attributes:
        name: Choice of the config group, `data=NAME`.
        description: Description of the data, for the model card.
        label: Label of the data in pictures and pages; empty for real places.
        folder_keys: Keys of the config group `data` that name folders. They are private, and comparisons ignore
            them, because data are compared by their fingerprint.
        find_folders: Function of the config group `data` of a run that returns its roots and stores, present or
            not. None if these are the values of `folder_keys`.
    """

    name: str
    description: str
    label: str = ""
    folder_keys: tuple[str, ...] = ()
    find_folders: Callable[[DataNode], list[Path]] | None = None

    def list_folders(self, data: DataNode) -> list[Path]:
        """Returns the roots and stores that the config group `data` names, present or not."""
        if self.find_folders is not None:
            return self.find_folders(data)

        values = [data.get(key) or [] for key in self.folder_keys]
        names = [name for value in values for name in ([value] if isinstance(value, str) else value)]
        return [Path(str(name)).expanduser() for name in names]


PLACES = SourceKind(name="places", description="Folders of photos, of its owner's", folder_keys=("roots",))
STORE = SourceKind(name="store", description="A prepared store of photos, of its owner's", folder_keys=("path",))
DEMO = SourceKind(
    name="demo",
    description="A synthetic country, drawn by a program",
    label="synthetic demo",
    find_folders=_find_demo,
)
SOURCE_KINDS = {kind.name: kind for kind in (PLACES, STORE, DEMO)}
FOLDER_KEYS = frozenset(key for kind in SOURCE_KINDS.values() for key in kind.folder_keys)

# By class name only, so that run folders from before a module was moved are read.
# Version 0.1.0 made the demo by a function `demo_data`.
BY_TARGET = {"PlacesDataModule": PLACES, "StoreDataModule": STORE, "DemoDataModule": DEMO, "demo_data": DEMO}

# Keys that identify the kind of a source in a config without a target.
BY_KEY = {"demo_seed": DEMO, "path": STORE, "roots": PLACES}


@dataclass(frozen=True)
class SourceRecord:
    """Source of the data of a run, as its config records it; `kind` is None if the config does not state it."""

    kind: SourceKind | None = None
    folders: tuple[Path, ...] = ()

    @property
    def label(self) -> str:
        """Label of the data; empty for real places."""
        return "" if self.kind is None else self.kind.label

    @property
    def folder_keys(self) -> frozenset[str]:
        """Keys of the config group `data` that name folders."""
        return FOLDER_KEYS if self.kind is None else FOLDER_KEYS.union(self.kind.folder_keys)


def source_from_config(config: Mapping[str, Any]) -> SourceRecord:
    """Reads the source of the data from a run's config, whose group `data` may lack keys."""
    data = config.get("data") or {}
    kind = _find_kind(data)
    if kind is None:
        return SourceRecord()
    try:
        return SourceRecord(kind, tuple(kind.list_folders(data)))
    except (KeyError, TypeError, ValueError):
        return SourceRecord(kind)


def _find_kind(data: DataNode) -> SourceKind | None:
    target = str(data.get("_target_", ""))
    is_built_in = target.startswith("geoguesser.") or "." not in target
    if is_built_in and (known := BY_TARGET.get(target.rpartition(".")[2])) is not None:
        return known
    if not target:
        return next((kind for key, kind in BY_KEY.items() if data.get(key) is not None), None)

    # A data source of the user declares itself, if this process has loaded it: nothing is imported here.
    module, _, name = target.rpartition(".")
    kind = getattr(getattr(sys.modules.get(module), name, None), "source", None)
    return kind if isinstance(kind, SourceKind) else None
