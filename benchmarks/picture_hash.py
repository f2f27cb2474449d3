"""Perceptual hash: number of bits that differ after encoding a view again, and between different places.

python benchmarks/picture_hash.py ROOT...     (roots with images/<uuid>/{0,90,180,270}.jpg)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import print_report
from PIL import Image

from geoguesser.data.checks.duplicates import MAX_HASH_DISTANCE
from geoguesser.data.checks.inspection import inspect_place
from geoguesser.data.checks.picture_hash import compute_hash_distance
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import HEADINGS, PlaceFiles

SPEC = ImageSpec(size=112)
CHANGES = {"encoded again at quality 50": (None, 50), "resized to 512 px": (512, 75)}


def encode_again(folder: Path, scratch: Path, size: int | None, quality: int) -> PlaceFiles:
    """Writes the views of a place with another size or quality."""
    for heading in HEADINGS:
        with Image.open(folder / f"{heading}.jpg") as image:
            changed = image if size is None else image.resize((size, size))
            changed.save(scratch / f"{heading}.jpg", quality=quality)
    return PlaceFiles(str(scratch))


def main() -> None:
    folders = sorted(path for root in sys.argv[1:] for path in (Path(root) / "images").iterdir())
    hashes = np.stack([inspect_place(PlaceFiles(str(path)), [SPEC]).views["hash"] for path in folders])
    rows: dict[str, str] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as name:
        for change, (size, quality) in CHANGES.items():
            # Each place is inspected before the next one is written to the same files.
            encoded = (encode_again(path, Path(name), size, quality) for path in folders)
            hashes_after = [inspect_place(files, [SPEC]).views["hash"] for files in encoded]
            bits = compute_hash_distance(hashes, np.stack(hashes_after))
            rows[change] = f"median {np.median(bits):g}, maximum {bits.max()} of 112 bits, {bits.size} views"
            ratios[change] = float(bits.max())

    # Near-duplicates need three similar views, so the third smallest distance of four decides.
    distances = np.sort(compute_hash_distance(hashes[:, None], hashes[None]), axis=-1)[..., 2]
    third = distances[~np.eye(len(distances), dtype=bool)]
    rows["different places"] = (
        f"third most similar of four views: minimum {third.min()}, median {np.median(third):g} bits"
    )
    rows["threshold of similar views"] = f"up to {MAX_HASH_DISTANCE} bits in at least three views"
    ratios["different places"] = float(third.min())
    print_report(f"{len(folders)} places", rows, ratios)


if __name__ == "__main__":
    main()
