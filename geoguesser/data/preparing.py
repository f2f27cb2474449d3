"""Preparing: from roots to a store: check, merge, split, pack, commit. Or only to what there is to say of them.

Nothing of an old store is touched before the new manifest replaces its own in one step.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from geoguesser import __version__
from geoguesser.data.audit import audit
from geoguesser.data.datamodule import PlacesDataModule
from geoguesser.data.examine import Facts
from geoguesser.data.findings import Finding
from geoguesser.data.fingerprint import digest_of, fingerprint
from geoguesser.data.identity import Match, find_identical
from geoguesser.data.images import ImageSpec, decoder
from geoguesser.data.packing import Packed, pack, shard_ranges, write_whole, writing
from geoguesser.data.places import coords_of, files_of
from geoguesser.data.soundness import settle_images, stats_of_sums
from geoguesser.data.splits import Ties
from geoguesser.data.store import FORMAT, MANIFEST, MASK_COLUMNS, Store, is_store
from geoguesser.errors import StoreError

log = logging.getLogger(__name__)
BoolArray = npt.NDArray[np.bool_]
INTERNAL = ("row", "folder", "names", "folder_split", "root")  # columns of ours that a store does not keep


@dataclass(frozen=True)
class Prepared:
    """What preparing found; N places are in the store (or would be).

    Attributes:
        table: N places; `split` is the one they have now.
        mask: (N, 4) which views are used.
        facts: Of the images, for the first size; without thumbnails.
        seen: The table before images and duplicates were settled; rows of `matches` are rows of it.
        matches: Pairs of places that are the same, by row of `seen`.
        audit: As geoguesser/data/audit.py gives it.
        stats: Name of a size -> mean and std of the training views' pixels, by channel.
        specs: The sizes.
        reused: How many places were packed before.
        recorded: How many of the places a store had recorded.
        changed: Whether a store was written; false where it was the same already.
    """

    table: pd.DataFrame
    mask: BoolArray
    facts: Facts
    seen: pd.DataFrame
    matches: list[Match]
    audit: dict[str, Any]
    stats: dict[str, dict[str, list[float]]]
    specs: list[ImageSpec]
    reused: int
    recorded: int
    changed: bool


def prepare(data: PlacesDataModule, specs: list[ImageSpec], out: Path | None) -> Prepared:
    """Checks all places, and packs them into a store.

    Errors in the data are gathered: the first pass finds them all, then raises once.

    Args:
        data: The roots, their region and split, and what to do about findings.
        specs: The sizes; those that an old store in `out` holds are kept up beside them.
        out: The store's folder; None writes nothing.

    Raises:
        DataError: The data break rules; all findings are in `data.findings`.
        StoreError: `out` cannot be written, or another process writes there.
        MissingFileError: A root has gone.
    """
    if out is None:
        return _prepare(data, specs, None, None)
    with writing(out):
        out.mkdir(parents=True, exist_ok=True)
    with locked(out):
        old = Store.open(out) if is_store(out) else None
        return _prepare(data, specs, out, old)


def _prepare(data: PlacesDataModule, specs: list[ImageSpec], out: Path | None, old: Store | None) -> Prepared:
    findings = data.findings
    findings.defer = True
    seen = data.read_places()
    recorded = _recorded(seen, old, data)
    if old is not None:
        specs = _with_old(specs, old)
    packed = pack(out, seen["uuid"].tolist(), files_of(seen), seen["root"].tolist(), specs)
    facts = packed.facts[specs[0].name]
    mask, dropped = settle_images(seen, facts, packed.found, findings, mask=data.masks_views)
    some = np.flatnonzero(~dropped)
    table = seen.iloc[some].reset_index(drop=True)
    identity = find_identical(table, coords_of(table), facts.take(some), findings, first=recorded[some] != "")
    kept = np.flatnonzero(~identity.dropped)
    rows = some[kept]
    table = table.iloc[kept].reset_index(drop=True)
    splits = np.zeros(0, dtype="U6")
    if len(table) or not findings.fatal:  # with errors and without places, the errors say more
        ties = Ties(identity.groups[kept], recorded[rows])
        splits, bridges = data.split.assign_tied(table, data.region, ties)
        names, where = table["uuid"].to_numpy(), table["row"].to_numpy()
        findings.settle(
            Finding("split_bridge", str(where[one.row]), f"({names[one.row]}) {one.reason}") for one in bridges
        )
        if not findings.keeps("split_bridge"):
            stay = np.setdiff1d(np.arange(len(table)), [one.row for one in bridges])
            rows, kept, splits = rows[stay], kept[stay], splits[stay]
            table = table.iloc[stay].reset_index(drop=True)
    findings.raise_fatal()
    coords = coords_of(table)
    ready = table.assign(split=splits)
    sums = {name: _place_sums(one, rows, mask[rows]) for name, one in packed.facts.items()}
    prepared = Prepared(
        table=ready,
        mask=mask[rows],
        facts=facts.take(rows),
        seen=seen,
        matches=[_renumbered(one, some) for one in identity.matches],
        audit=audit(coords, splits),
        stats={spec.name: _stats(sums[spec.name], mask[rows], splits == "train", spec) for spec in specs},
        specs=specs,
        reused=packed.reused,
        recorded=int((recorded != "").sum()),
        changed=False,
    )
    if out is None:
        return prepared
    changed = _commit(out, old, data, prepared, packed, rows, sums, identity.groups[kept])
    return Prepared(**{**vars(prepared), "changed": changed})


def _recorded(seen: pd.DataFrame, old: Store | None, data: PlacesDataModule) -> npt.NDArray[np.str_]:
    """(N,) the split that the old store recorded, empty for new places; places that have gone are findings."""
    if old is None:
        return np.full(len(seen), "", dtype="U6")
    before = old.table().set_index("uuid")["store_split"]
    gone = before.index.difference(pd.Index(seen["uuid"]))
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


def _place_sums(facts: Facts, rows: npt.NDArray[np.int64], mask: BoolArray) -> npt.NDArray[np.int64]:
    """(N, 2, 3) sums over each place's used views."""
    found: npt.NDArray[np.int64] = (facts.sums[rows] * mask[..., None, None]).sum(axis=1)
    return found


def _stats(
    sums: npt.NDArray[np.int64], mask: BoolArray, train: BoolArray, spec: ImageSpec
) -> dict[str, list[float]]:
    mean, std = stats_of_sums(sums[train].sum(axis=0), int(mask[train].sum()) * spec.size**2)
    return {"mean": mean, "std": std}


def _commit(
    out: Path,
    old: Store | None,
    data: PlacesDataModule,
    prepared: Prepared,
    packed: Packed,
    rows: npt.NDArray[np.int64],
    sums: dict[str, npt.NDArray[np.int64]],
    groups: npt.NDArray[np.int64],
) -> bool:
    """Writes table and facts, then the manifest; removes what it no longer names. Says whether it is new."""
    ranges = shard_ranges(len(prepared.seen))
    starts = np.array([one.start for one in ranges])
    shard = np.searchsorted(starts, rows, "right") - 1
    digests = prepared.facts.views["digest"]
    images = {
        spec.name: {
            "size": spec.size,
            "fit": spec.fit,
            "shards": packed.shards[spec.name],
            "fingerprint": fingerprint(prepared.table, prepared.mask, digests, spec),
            "train_pixels": prepared.stats[spec.name],
        }
        for spec in prepared.specs
    }
    table = _stored_table(prepared, shard, rows - starts[shard], groups)
    prints = {name: entry["fingerprint"] for name, entry in images.items()}
    name = digest_of({"prints": prints, "table": pd.util.hash_pandas_object(table.astype(str)).sum()})
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "geoguesser": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "label": data.label,
        "decoder": decoder(),
        "split": repr(data.split),
        "places": len(table),
        "table": f"places-{name}.parquet",
        "facts": f"facts-{name}.npz",
        "thumbnails": f"thumbnails-{name}.npy",
        "shard_places": [len(one) for one in ranges],
        "images": images,
        "audit": prepared.audit,
    }
    manifest["files"] = [manifest[key] for key in ("table", "facts", "thumbnails")]
    same = {key: value for key, value in manifest.items() if key != "created"}
    if old is not None and same == {key: value for key, value in old.manifest.items() if key != "created"}:
        _collect_garbage(out, manifest)
        return False
    with writing(out):
        facts: dict[str, Any] = {"digests": digests} | {f"sums {key}": value for key, value in sums.items()}
        write_whole(out / manifest["table"], lambda file: table.to_parquet(file, index=False))
        write_whole(out / manifest["facts"], lambda file: np.savez(file, **facts))
        folder = out / "views" / prepared.specs[0].name
        shards = [folder / f"{one}.npz" for one in packed.shards[prepared.specs[0].name]]
        write_whole(out / manifest["thumbnails"], lambda file: _copy_thumbnails(file, shards, starts, rows))
        text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
        write_whole(out / MANIFEST, lambda file: file.write(text.encode()))
        _sync_folder(out)
    _collect_garbage(out, manifest)
    return True


def _stored_table(
    prepared: Prepared, shard: npt.NDArray[np.int64], slot: npt.NDArray[np.int64], groups: npt.NDArray[np.int64]
) -> pd.DataFrame:
    """The table as it is stored; a column `split` of the user's own stays beside ours."""
    table = prepared.seen.set_index("uuid").loc[prepared.table["uuid"]].reset_index()
    source = table["root"].map(os.path.basename).where(table["root"].map(os.path.basename) != "", table["root"])
    own = table.drop(columns=[column for column in INTERNAL if column in table])
    text = own.columns.difference(["latitude", "longitude"])
    own[text] = own[text].fillna("").astype(str)  # columns that only some roots have
    views = {column: prepared.mask[:, number] for number, column in enumerate(MASK_COLUMNS)}
    return own.assign(
        store_split=prepared.table["split"].to_numpy(),
        source=source.to_numpy(),
        **views,
        shard=shard,
        slot=slot,
        same_as=groups,
    )


def _copy_thumbnails(
    file: Any, shards: list[Path], starts: npt.NDArray[np.int64], rows: npt.NDArray[np.int64]
) -> None:
    """Writes one .npy of the thumbnails of the rows that stay, shard by shard."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), 4, 3, 8, 8)}
    np.lib.format.write_array_header_1_0(file, header)
    ends = np.append(starts[1:], np.iinfo(np.int64).max)
    for shard, start, end in zip(shards, starts, ends, strict=True):
        own = rows[(rows >= start) & (rows < end)] - start
        with np.load(shard) as told:
            file.write(np.ascontiguousarray(told["thumbnails"][own]).tobytes())


def _collect_garbage(out: Path, manifest: dict[str, Any]) -> None:
    """Removes what no manifest names: earlier shards and tables, and what an interruption left half done.

    A process that has them mapped keeps them until it ends.
    """
    named = {
        f"{shard}{end}"
        for one in manifest["images"].values()
        for shard in one["shards"]
        for end in (".bin", ".npz")
    }
    for path in (out / "views").glob("*/*"):
        if path.name not in named and path.suffix in (".bin", ".npz", ".part"):
            path.unlink(missing_ok=True)
    for pattern in ("places-*.parquet*", "facts-*.npz*", "thumbnails-*.npy*", "*.part"):
        for path in out.glob(pattern):
            if path.name not in manifest["files"]:
                path.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    """Brings renames to the disk, where a folder can be opened for that."""
    try:
        number = os.open(folder, os.O_RDONLY)
    except OSError:
        return
    try:
        os.fsync(number)
    finally:
        os.close(number)


@contextmanager
def locked(out: Path) -> Iterator[None]:
    """Holds the store's folder against other processes that would write there; the lock ends with the process.

    Raises:
        StoreError: Another process holds it.
    """
    import fcntl

    with writing(out):
        file = (out / ".lock").open("a")
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError.at(
                f"out={out}",
                "is being written by another process",
                remedy="Wait for it, or choose another folder.",
            ) from None
        yield
