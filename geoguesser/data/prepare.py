"""Preparing: from roots to a store: check, merge, split, pack, commit. Or only to what there is to say of them.

Nothing of an old store is touched before the new manifest replaces its own in one step.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser.arrays import BoolArray
from geoguesser.data.checks.duplicates import Match, find_duplicates
from geoguesser.data.checks.filtering import compute_stats, record_image_findings, split_places
from geoguesser.data.checks.findings import Finding
from geoguesser.data.checks.inspection import ImageStats
from geoguesser.data.checks.leakage import audit_split
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import get_coords, list_files
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.splits import SplitConstraints
from geoguesser.data.store.reader import MANIFEST, Store, is_store, read_manifest
from geoguesser.data.store.shards import open_for_writing, pack_shards
from geoguesser.data.store.writer import Prepared, commit, is_own_file
from geoguesser.errors import StoreError
from geoguesser.system.locks import FileLock

log = logging.getLogger(__name__)


def prepare_store(
    data: PlacesDataModule, specs: list[ImageSpec], out: Path | None, *, look: Path | None = None
) -> Prepared:
    """Checks all places, and packs them into a store.

    Errors in the data are gathered: the first pass finds them all, then raises once.

    Args:
        data: The roots, their region and split, and what to do about findings.
        specs: The sizes; those that an old store in `out` holds are kept up beside them.
        out: The store's folder; None writes nothing.
        look: With `out` None: a store that is taken for what would be added to, and only read.

    Raises:
        DataError: The data break rules; all findings are in `data.findings`.
        StoreError: `out` cannot be written, holds something else, or another process writes there.
        MissingFileError: A root has gone.
    """
    data.findings.defer = True
    seen = data.read_places()  # before a folder is made: a root that is not there leaves none behind
    if out is None:
        old = Store(look, read_manifest(look)) if look is not None and is_store(look) else None
        return _prepare(data, seen, specs, None, old)
    with open_for_writing(out):
        _refuse_strangers(out)
        out.mkdir(parents=True, exist_ok=True)
    with lock_store(out):
        old = Store(out, read_manifest(out)) if is_store(out) else None  # damaged shards are packed anew
        return _prepare(data, seen, specs, out, old)


def _refuse_strangers(out: Path) -> None:
    """A store is made in a folder of its own: what lies in there that is not a store's would be in danger."""
    if not out.is_dir() or is_store(out):
        return
    ours = {".lock", "views", "findings.csv", "report.html", f"{MANIFEST}.part"}
    strangers = sorted(path.name for path in out.iterdir() if path.name not in ours and not is_own_file(path.name))
    if strangers:
        raise StoreError.at(
            f"out={out}",
            "must be a store, or a folder that is new or empty",
            found=strangers[:5],
            remedy="Choose another folder.",
        )


def _prepare(
    data: PlacesDataModule, seen: pd.DataFrame, specs: list[ImageSpec], out: Path | None, old: Store | None
) -> Prepared:
    findings = data.findings
    recorded = _recorded(seen, old, data)
    if old is not None:
        specs = _with_old(specs, old)
    packed = pack_shards(out, seen["uuid"].tolist(), list_files(seen), seen["root"].tolist(), specs)
    facts = packed.facts[specs[0].name]
    mask, dropped = record_image_findings(
        seen, facts, packed.found, findings, mask=data.masks_views, largest=max(spec.size for spec in specs)
    )
    some = np.flatnonzero(~dropped)
    table = seen.iloc[some].reset_index(drop=True)
    identity = find_duplicates(table, get_coords(table), facts.take(some), findings, first=recorded[some] != "")
    kept = np.flatnonzero(~identity.dropped)
    rows = some[kept]
    table = table.iloc[kept].reset_index(drop=True)
    findings.raise_fatal()  # they say more than what the split would say of the few that are left
    splits = split_places(
        data.split, table, data.region, SplitConstraints(identity.groups[kept], recorded[rows]), findings
    )
    findings.raise_fatal()
    coords = get_coords(table)
    ready = table.assign(split=splits)
    sums = {name: _place_sums(one, rows, mask[rows]) for name, one in packed.facts.items()}
    prepared = Prepared(
        table=ready,
        mask=mask[rows],
        facts=facts.take(rows),
        seen=seen,
        matches=[_renumbered(one, some) for one in identity.matches],
        audit=audit_split(coords, splits),
        stats={spec.name: _stats(sums[spec.name], mask[rows], splits == "train", spec) for spec in specs},
        specs=specs,
        reused=packed.reused,
        recorded=int((recorded[rows] != "").sum()),
        changed=False,
    )
    if out is None:
        return prepared
    changed = commit(
        out,
        old=None if old is None else old.manifest,
        prepared=prepared,
        packed=packed,
        rows=rows,
        sums=sums,
        groups=identity.groups[kept],
        about={"label": data.label, "split": str(data.split), "split_seed": getattr(data.split, "seed", 0)},
    )
    return Prepared(**{**vars(prepared), "changed": changed})


def _recorded(seen: pd.DataFrame, old: Store | None, data: PlacesDataModule) -> npt.NDArray[np.str_]:
    """(N,) the split that the old store recorded, empty for new places; places that have gone are findings."""
    if old is None:
        return np.full(len(seen), "", dtype="U6")
    before = old.table().set_index("uuid")["store_split"]
    gone = [uuid for uuid in before.index if uuid not in data.findings.ids]
    data.findings.settle(
        Finding("gone", f"{old.folder}: {uuid}", "is in the store, but in none of data.roots any more")
        for uuid in gone
    )
    return seen["uuid"].map(before).fillna("").to_numpy(dtype="U6")


def _with_old(specs: list[ImageSpec], old: Store) -> list[ImageSpec]:
    """The sizes asked for, and those that the store holds already."""
    names = {spec.name for spec in specs}
    entries = [entry for name, entry in old.manifest["images"].items() if name not in names]
    return [*specs, *(ImageSpec(size=entry["size"], fit=entry["fit"]) for entry in entries)]


def _renumbered(match: Match, rows: npt.NDArray[np.int64]) -> Match:
    return Match(match.kind, int(rows[match.row]), int(rows[match.earlier]), match.reason)


def _place_sums(facts: ImageStats, rows: npt.NDArray[np.int64], mask: BoolArray) -> npt.NDArray[np.int64]:
    """(N, 2, 3) sums over each place's used views."""
    found: npt.NDArray[np.int64] = (facts.sums[rows] * mask[..., None, None]).sum(axis=1)
    return found


def _stats(
    sums: npt.NDArray[np.int64], mask: BoolArray, train: BoolArray, spec: ImageSpec
) -> dict[str, list[float]]:
    mean, std = compute_stats(sums[train].sum(axis=0), int(mask[train].sum()) * spec.size**2)
    return {"mean": mean, "std": std}


@contextmanager
def lock_store(out: Path) -> Iterator[None]:
    """Holds the store's folder against other processes that would write there; the lock ends with the process.

    Raises:
        StoreError: Another process holds it.
    """
    lock = FileLock(out / ".lock", required=True)
    with open_for_writing(out):
        is_free = lock.try_acquire()
    if not is_free:
        raise StoreError.at(
            f"out={out}",
            "is being written by another process",
            remedy="Wait for it, or choose another folder.",
        )
    try:
        yield
    finally:
        lock.release()
