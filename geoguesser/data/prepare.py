"""Preparation of a store from roots: inspect and pack all views, select places, split them, commit.

Nothing of an old store changes before the new manifest replaces the old one in one step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from geoguesser.arrays import StringArray
from geoguesser.data.checks.findings import Finding, Findings
from geoguesser.data.checks.image_stats import compute_pixel_stats
from geoguesser.data.checks.leakage import audit_split
from geoguesser.data.checks.selection import select_places
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import get_coords, list_files
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.splits import SplitConstraints, split_places
from geoguesser.data.store.reader import MANIFEST, Store, is_store, read_manifest
from geoguesser.data.store.shards import convert_store_errors, pack_shards
from geoguesser.data.store.writer import PreparedDataset, commit, is_store_file
from geoguesser.errors import StoreError
from geoguesser.system.locks import FileLock

log = logging.getLogger(__name__)


def prepare_store(
    data: PlacesDataModule, specs: list[ImageSpec], out: Path | None, *, look: Path | None = None
) -> PreparedDataset:
    """Checks all places, and packs them into the store `out`; None writes nothing.

    Errors in the data are collected, so that one pass reports all of them. The sizes of an old store are packed as
    well. Without `out`, `look` is the store that would be extended.

    Raises:
        DataError: The data break rules; `data.findings` has all findings.
        StoreError: `out` cannot be written, holds other files, or another process writes there.
        MissingFileError: A root is missing.
    """
    data.findings.defer = True

    # The table is read before a folder is made, so that a missing root leaves no empty folder.
    table = data.read_places()
    if out is None:
        old = Store(look, read_manifest(look)) if look is not None and is_store(look) else None
        return _prepare(data, table, specs, None, old)

    with convert_store_errors(out):
        _check_folder(out)
        out.mkdir(parents=True, exist_ok=True)
    with lock_store(out):
        # Only the manifest is read here: damaged shards are packed again.
        old = Store(out, read_manifest(out)) if is_store(out) else None
        return _prepare(data, table, specs, out, old)


def _check_folder(out: Path) -> None:
    """Raises StoreError if a folder without a store holds files, because removing old shards could delete them."""
    if not out.is_dir() or is_store(out):
        return
    known = {".lock", "views", "findings.csv", "report.html", f"{MANIFEST}.part"}
    others = sorted(path.name for path in out.iterdir() if path.name not in known and not is_store_file(path.name))
    if others:
        rule = "must be a store, or a folder that is new or empty"
        raise StoreError.at(f"out={out}", rule, found=others[:5], remedy="Choose another folder.")


def _prepare(
    data: PlacesDataModule, table: pd.DataFrame, specs: list[ImageSpec], out: Path | None, old: Store | None
) -> PreparedDataset:
    findings = data.findings
    recorded = np.full(len(table), "", dtype="U6")
    if old is not None:
        recorded = _read_recorded(table, old, findings)
        names = {spec.name for spec in specs}
        specs = [*specs, *(spec for spec in old.specs if spec.name not in names)]

    packed = pack_shards(out, table["uuid"].tolist(), list_files(table), table["root"].tolist(), specs)
    selection = select_places(
        table,
        packed.stats[specs[0].name],
        packed.findings,
        findings,
        allow_missing_views=data.masks_views,
        max_size=max(spec.size for spec in specs),
        recorded=recorded != "",
    )
    rows, mask = selection.rows, selection.mask

    # The errors so far are the cause of an empty split, which would hide them.
    findings.raise_fatal()
    places = table.iloc[rows].reset_index(drop=True)
    constraints = SplitConstraints(selection.groups, recorded[rows])
    splits = split_places(data.split, places, data.region, constraints, findings)
    findings.raise_fatal()

    sums = {name: stats.take(rows).sum_used_views(mask) for name, stats in packed.stats.items()}
    is_train = splits == "train"
    pixel_stats = {}
    for spec in specs:
        mean, std = compute_pixel_stats(sums[spec.name][is_train], mask[is_train], spec.size)
        pixel_stats[spec.name] = {"mean": mean, "std": std}
    prepared = PreparedDataset(
        table=places.assign(split=splits),
        mask=mask,
        image_stats=packed.stats[specs[0].name].take(rows),
        input_table=table,
        matches=selection.matches,
        audit=audit_split(get_coords(places), splits),
        pixel_stats=pixel_stats,
        specs=specs,
        num_reused=packed.num_reused,
        num_recorded=int((recorded[rows] != "").sum()),
        changed=False,
    )
    if out is None:
        return prepared

    changed = commit(
        out,
        old=None if old is None else old.manifest,
        prepared=prepared,
        shards=packed.shards,
        rows=rows,
        sums=sums,
        groups=selection.groups,
        description={"label": data.label, "split": str(data.split), "split_seed": getattr(data.split, "seed", 0)},
    )
    return replace(prepared, changed=changed)


def _read_recorded(table: pd.DataFrame, old: Store, findings: Findings) -> StringArray:
    """Returns (N,) the split that an old store recorded, empty for new places; absent places become findings."""
    recorded = old.table().set_index("uuid")["store_split"]
    findings.record(
        Finding("gone", f"{old.folder}: {uuid}", "is in the store, but in none of data.roots any more")
        for uuid in recorded.index
        if uuid not in findings.ids
    )
    return table["uuid"].map(recorded).fillna("").to_numpy(dtype="U6")


@contextmanager
def lock_store(out: Path) -> Iterator[None]:
    """Locks a store against writers in other processes; raises StoreError if another process holds the lock."""
    lock = FileLock(out / ".lock", required=True)
    with convert_store_errors(out):
        is_free = lock.try_acquire()
    if not is_free:
        raise StoreError.at(
            f"out={out}", "is being written by another process", remedy="Wait for it, or choose another folder."
        )
    try:
        yield
    finally:
        lock.release()
