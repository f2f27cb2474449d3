"""Committing: the last step of preparing, by which an old store becomes the new one, or stays what it is."""

from __future__ import annotations

import json
import logging
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from geoguesser.arrays import BoolArray, IntArray
from geoguesser.data.checks.duplicates import Match
from geoguesser.data.checks.inspection import ImageStats
from geoguesser.data.fingerprint import compute_fingerprint
from geoguesser.data.images import ImageSpec, choose_decoder
from geoguesser.data.store.reader import FORMAT, MANIFEST, MASK_COLUMNS, check_shards
from geoguesser.data.store.shards import PackedShard, open_for_writing, shard_ranges
from geoguesser.system.disk_cache import compute_digest
from geoguesser.system.files import get_target_name, open_replacement, write_bytes
from geoguesser.system.versions import __version__

log = logging.getLogger(__name__)

OWN_FILE = re.compile(
    r"(places-[0-9a-f]{16}\.parquet|facts-[0-9a-f]{16}\.npz|thumbnails-[0-9a-f]{16}\.npy|store\.json)(\.part)?"
)
OWN_SHARD = re.compile(r"(px\d+-(?:crop|squash)/[0-9a-f]{32})\.(?:bin|npz|part|npz\.part)")
INTERNAL = ("row", "folder", "names", "folder_split", "root")  # columns of ours that a store does not keep


@dataclass(frozen=True)
class Prepared:
    """Result of preparing: the N places that are in the store, or would be.

    Attributes:
        table: N places; `split` is the one they have now.
        mask: (N, 4) which views are used.
        facts: Of the images, for the first size; without thumbnails.
        seen: The table before images and duplicates were settled; rows of `matches` are rows of it.
        matches: Pairs of places that are the same, by row of `seen`.
        audit: As geoguesser/data/checks/leakage.py gives it.
        stats: Name of a size -> mean and std of the training views' pixels, by channel.
        specs: The sizes.
        reused: How many places were packed before.
        recorded: How many of the places a store had recorded.
        changed: Whether a store was written; false where it was the same already.
    """

    table: pd.DataFrame
    mask: BoolArray
    facts: ImageStats
    seen: pd.DataFrame
    matches: list[Match]
    audit: dict[str, Any]
    stats: dict[str, dict[str, list[float]]]
    specs: list[ImageSpec]
    reused: int
    recorded: int
    changed: bool


def commit(
    out: Path,
    *,
    old: dict[str, Any] | None,
    prepared: Prepared,
    packed: PackedShard,
    rows: IntArray,
    sums: dict[str, IntArray],
    groups: IntArray,
    about: dict[str, Any],
) -> bool:
    """Writes table and facts, then the manifest; removes what it no longer names.

    Args:
        out: The store's folder.
        old: The manifest that is there.
        prepared: The N places that the store holds.
        packed: The shards of all places seen.
        rows: (N,) their rows among those.
        sums: Name of a size -> (N, 2, 3) sums of pixels.
        groups: (N,) a number per place; places that are the same share one.
        about: What the manifest says beside.

    Returns:
        Whether the store is another one now.

    Raises:
        StoreError: Something cannot be written; the old manifest is then still there.
    """
    ranges = shard_ranges(len(prepared.seen))
    starts = np.array([one.start for one in ranges])
    shard = np.searchsorted(starts, rows, "right") - 1
    digests = prepared.facts.views["digest"]
    images = {
        spec.name: {
            "size": spec.size,
            "fit": spec.fit,
            "shards": packed.shards[spec.name],
            "fingerprint": compute_fingerprint(prepared.table, prepared.mask, digests, spec),
            "train_pixels": prepared.stats[spec.name],
        }
        for spec in prepared.specs
    }
    table = _stored_table(prepared, shard, rows - starts[shard], groups)
    prints = {name: entry["fingerprint"] for name, entry in images.items()}
    name = compute_digest({"prints": prints, "table": pd.util.hash_pandas_object(table.astype(str)).sum()})
    manifest: dict[str, Any] = {
        "format": FORMAT,
        "geoguesser": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "decoder": choose_decoder(),
        **about,
        "places": len(table),
        "table": f"places-{name}.parquet",
        "facts": f"facts-{name}.npz",
        "thumbnails": f"thumbnails-{name}.npy",
        "shard_places": [len(one) for one in ranges],
        "images": images,
        "audit": prepared.audit,
    }
    names = [manifest[key] for key in ("table", "facts", "thumbnails")]
    own = ("created", "files")
    if old is not None and _without(manifest, own) == _without(old, own) and check_shards(out, old["files"]):
        _collect_garbage(out, old)
        return False
    with open_for_writing(out):
        facts: dict[str, Any] = {"digests": digests} | {f"sums {key}": value for key, value in sums.items()}
        with open_replacement(out / manifest["table"], durable=True) as stream:
            table.to_parquet(stream, index=False)
        with open_replacement(out / manifest["facts"], durable=True) as stream:
            np.savez(stream, **facts)
        folder = out / "views" / prepared.specs[0].name
        shards = [folder / f"{one}.npz" for one in packed.shards[prepared.specs[0].name]]
        with open_replacement(out / manifest["thumbnails"], durable=True) as stream:
            _copy_thumbnails(stream, shards, starts, rows)

        manifest["files"] = {one: (out / one).stat().st_size for one in names}
        text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
        write_bytes(out / MANIFEST, text.encode(), durable=True)

    _collect_garbage(out, manifest)
    return True


def _without(manifest: dict[str, Any], keys: tuple[str, ...]) -> dict[str, Any]:
    return {key: value for key, value in manifest.items() if key not in keys}


def _stored_table(prepared: Prepared, shard: IntArray, slot: IntArray, groups: IntArray) -> pd.DataFrame:
    """The table as it is stored; a user's column that has the name of one of ours is kept under another."""
    table = prepared.seen.set_index("uuid").loc[prepared.table["uuid"]].reset_index()
    views = {column: prepared.mask[:, number] for number, column in enumerate(MASK_COLUMNS)}
    ours: dict[str, Any] = {
        "store_split": prepared.table["split"].to_numpy(),
        "source": table["root"].map(_tails(table["root"].unique().tolist())).to_numpy(),
        **views,
        "shard": shard,
        "slot": slot,
        "same_as": groups,
    }
    own = table.drop(columns=[column for column in INTERNAL if column in table])
    renamed = {column: f"own_{column}" for column in ours if column in own}
    if renamed:
        log.warning("columns of your own are kept under other names: %s", renamed)
        own = own.rename(columns=renamed)
    text = own.columns.difference(["latitude", "longitude"])
    own[text] = own[text].fillna("").astype(str)  # columns that only some roots have
    return own.assign(**ours)


def _tails(roots: list[str]) -> dict[str, str]:
    """Each root's name, with as many of the folders above it as tell all of them apart."""
    parts = {root: Path(root).resolve().parts for root in roots}
    for length in range(1, max(len(one) for one in parts.values()) + 1):
        names = {root: "/".join(one[-length:]) for root, one in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return names


def _copy_thumbnails(file: Any, shards: list[Path], starts: IntArray, rows: IntArray) -> None:
    """Writes one .npy of the thumbnails of the rows that stay, shard by shard."""
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), 4, 3, 8, 8)}
    np.lib.format.write_array_header_1_0(file, header)
    ends = np.append(starts[1:], np.iinfo(np.int64).max)
    for shard, start, end in zip(shards, starts, ends, strict=True):
        own = rows[(rows >= start) & (rows < end)] - start
        with np.load(shard) as told:
            file.write(np.ascontiguousarray(told["thumbnails"][own]).tobytes())


def is_own_file(name: str) -> bool:
    """Tells if a file of this name, in a store's folder, is one of its tables or a temporary file of one."""
    return bool(OWN_FILE.fullmatch(get_target_name(name)))


def _collect_garbage(out: Path, manifest: dict[str, Any]) -> None:
    """Removes what no manifest names: earlier shards and tables, and what an interruption left half done.

    Only files that have the names of a store's own are touched. A process that has them mapped keeps them
    until it ends.
    """
    images = manifest["images"]
    named = {f"{name}/{shard}" for name, entry in images.items() for shard in entry["shards"]}
    for path in (out / "views").glob("*/*"):
        own = OWN_SHARD.fullmatch(f"{path.parent.name}/{get_target_name(path.name)}")
        if own and (own[1] not in named or path.name.endswith(".part")):
            path.unlink(missing_ok=True)
    for path in out.iterdir():
        if is_own_file(path.name) and path.name not in (*manifest["files"], MANIFEST):
            path.unlink(missing_ok=True)
