"""Writes a store in one atomic step: an old store is replaced completely, or stays as it is."""

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
from geoguesser.data.checks.image_stats import ImageStats
from geoguesser.data.fingerprint import compute_fingerprint
from geoguesser.data.images import ImageSpec, describe_decoder
from geoguesser.data.splits import ADDED_COLUMNS
from geoguesser.data.store.reader import MANIFEST, MASK_COLUMNS, STORE_FORMAT_VERSION, match_file_sizes
from geoguesser.data.store.shards import compute_shard_ranges, convert_store_errors
from geoguesser.system.disk_cache import compute_digest
from geoguesser.system.files import get_target_name, open_replacement, write_bytes
from geoguesser.system.tensor_files import load_npz
from geoguesser.system.versions import __version__

log = logging.getLogger(__name__)

STORE_FILE = re.compile(
    r"(places-[0-9a-f]{16}\.parquet|facts-[0-9a-f]{16}\.npz|thumbnails-[0-9a-f]{16}\.npy|store\.json)(\.part)?"
)
STORE_SHARD = re.compile(r"(px\d+-(?:crop|squash)/[0-9a-f]{32})\.(?:bin|npz|part|npz\.part)")


@dataclass(frozen=True)
class PreparedDataset:
    """Result of preparing: the N places in the store, or that would be in it.

    Attributes:
        table: N places with their `split`.
        mask: (N, 4) True for each view that is used.
        input_table: Table of all places that were read, before any was left out by its images or as a duplicate.
        matches: Pairs of duplicates, by row of `input_table`.
        audit: Distances of the splits to the training places, as `audit_split` returns them.
        pixel_stats: Name of a size -> mean and std of the training views' pixels, by channel.
        changed: True if a store was written; False if it was up to date.
    """

    table: pd.DataFrame
    mask: BoolArray
    image_stats: ImageStats
    input_table: pd.DataFrame
    matches: list[Match]
    audit: dict[str, Any]
    pixel_stats: dict[str, dict[str, list[float]]]
    specs: list[ImageSpec]
    num_reused: int
    num_recorded: int
    changed: bool


def commit(
    out: Path,
    *,
    old: dict[str, Any] | None,
    prepared: PreparedDataset,
    shards: dict[str, list[str]],
    rows: IntArray,
    sums: dict[str, IntArray],
    groups: IntArray,
    description: dict[str, Any],
) -> bool:
    """Writes table and statistics, then the manifest, and removes files that it does not name.

    `shards` names the shards of each size, which hold all places that were read; `rows` are the N kept ones among
    them. `sums` are (N, 2, 3) by size. The old manifest is None for a new store.

    Returns:
        True if the store has changed.

    Raises:
        StoreError: A file cannot be written; the old manifest is then still in place.
    """
    ranges = compute_shard_ranges(len(prepared.input_table))
    starts = np.array([shard_rows.start for shard_rows in ranges])
    shard = np.searchsorted(starts, rows, "right") - 1
    table = _make_stored_table(prepared, shard, rows - starts[shard], groups)

    digests = prepared.image_stats.views["digest"]
    images = {
        spec.name: {
            "size": spec.size,
            "fit": spec.fit,
            "shards": shards[spec.name],
            "fingerprint": compute_fingerprint(prepared.table, prepared.mask, digests, spec),
            "train_pixels": prepared.pixel_stats[spec.name],
        }
        for spec in prepared.specs
    }

    # Files are named by their content, so that those of the old store stay until the manifest is replaced.
    prints = {name: entry["fingerprint"] for name, entry in images.items()}
    name = compute_digest({"prints": prints, "table": pd.util.hash_pandas_object(table.astype(str)).sum()})
    manifest: dict[str, Any] = {
        "format": STORE_FORMAT_VERSION,
        "geoguesser": __version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "decoder": describe_decoder(),
        **description,
        "places": len(table),
        "table": f"places-{name}.parquet",
        "facts": f"facts-{name}.npz",
        "thumbnails": f"thumbnails-{name}.npy",
        "shard_places": [len(shard_rows) for shard_rows in ranges],
        "images": images,
        "audit": prepared.audit,
    }
    if old is not None and _is_same(manifest, old) and match_file_sizes(out, old["files"]):
        _remove_stale_files(out, old)
        return False

    with convert_store_errors(out):
        with open_replacement(out / manifest["table"], durable=True) as stream:
            table.to_parquet(stream, index=False)
        arrays: dict[str, Any] = {"digests": digests} | {f"sums {size}": values for size, values in sums.items()}
        with open_replacement(out / manifest["facts"], durable=True) as stream:
            np.savez(stream, **arrays)
        first = prepared.specs[0].name
        files = [out / "views" / first / f"{shard_name}.npz" for shard_name in shards[first]]
        with open_replacement(out / manifest["thumbnails"], durable=True) as stream:
            _copy_thumbnails(stream, files, starts, rows)

        # The manifest comes last: it makes the new files a store.
        names = [manifest[key] for key in ("table", "facts", "thumbnails")]
        manifest["files"] = {file: (out / file).stat().st_size for file in names}
        text = json.dumps(manifest, indent=1, allow_nan=False) + "\n"
        write_bytes(out / MANIFEST, text.encode(), durable=True)

    _remove_stale_files(out, manifest)
    return True


def _is_same(manifest: dict[str, Any], old: dict[str, Any]) -> bool:
    return all(
        manifest.get(key) == old.get(key) and (key in manifest) == (key in old)
        for key in (manifest.keys() | old.keys()) - {"created", "files"}
    )


def _make_stored_table(
    prepared: PreparedDataset, shard: IntArray, slot: IntArray, groups: IntArray
) -> pd.DataFrame:
    table = prepared.input_table.set_index("uuid").loc[prepared.table["uuid"]].reset_index()
    store_columns: dict[str, Any] = {
        "store_split": prepared.table["split"].to_numpy(),
        "source": table["root"].map(_shorten_roots(table["root"].unique().tolist())).to_numpy(),
        **{column: prepared.mask[:, index] for index, column in enumerate(MASK_COLUMNS)},
        "shard": shard,
        "slot": slot,
        "same_as": groups,
    }

    table = table.drop(columns=[column for column in ADDED_COLUMNS if column in table])
    renamed = {column: f"own_{column}" for column in store_columns if column in table}
    if renamed:
        log.warning("columns of your own are kept under other names: %s", renamed)
        table = table.rename(columns=renamed)

    # Columns that only some roots have lack values for the places of the others.
    text = table.columns.difference(["latitude", "longitude"])
    table[text] = table[text].fillna("").astype(str)
    return table.assign(**store_columns)


def _shorten_roots(roots: list[str]) -> dict[str, str]:
    parts = {root: Path(root).resolve().parts for root in roots}
    for length in range(1, max(len(folders) for folders in parts.values()) + 1):
        names = {root: "/".join(folders[-length:]) for root, folders in parts.items()}
        if len(set(names.values())) == len(names):
            return names
    return names


def _copy_thumbnails(file: Any, shards: list[Path], starts: IntArray, rows: IntArray) -> None:
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(rows), 4, 3, 8, 8)}
    np.lib.format.write_array_header_1_0(file, header)
    ends = np.append(starts[1:], np.iinfo(np.int64).max)
    for shard, start, end in zip(shards, starts, ends, strict=True):
        slots = rows[(rows >= start) & (rows < end)] - start
        thumbnails = load_npz(shard, ["thumbnails"])["thumbnails"]
        file.write(np.ascontiguousarray(thumbnails[slots]).tobytes())


def is_store_file(name: str) -> bool:
    """Returns whether a file of this name in the folder of a store is one of its tables, or a temporary file."""
    return bool(STORE_FILE.fullmatch(get_target_name(name)))


def _remove_stale_files(out: Path, manifest: dict[str, Any]) -> None:
    """Removes files with names of a store's files that the manifest lacks; mapped ones stay usable."""
    images = manifest["images"]
    named = {f"{name}/{shard}" for name, entry in images.items() for shard in entry["shards"]}
    for path in (out / "views").glob("*/*"):
        match = STORE_SHARD.fullmatch(f"{path.parent.name}/{get_target_name(path.name)}")
        if match and (match[1] not in named or path.name.endswith(".part")):
            path.unlink(missing_ok=True)
    for path in out.iterdir():
        if is_store_file(path.name) and path.name not in (*manifest["files"], MANIFEST):
            path.unlink(missing_ok=True)
