"""The perceptual hash: bits that differ after coding a view anew, and between different places.

python benchmarks/picture_hash.py ROOT...     (roots with images/<uuid>/{0,90,180,270}.jpg)
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from measure import report
from PIL import Image

from geoguesser.data.checks.duplicates import MAX_HASH_DISTANCE
from geoguesser.data.checks.inspection import inspect_place
from geoguesser.data.checks.picture_hash import compute_hash_distance
from geoguesser.data.images import ImageSpec
from geoguesser.data.place_files import HEADINGS, PlaceFiles

SPEC = ImageSpec(size=112)
CHANGES = {"coded anew at quality 50": (None, 50), "resized to 512 px": (512, 75)}


def coded(folder: Path, scratch: Path, size: int | None, quality: int) -> PlaceFiles:
    """A place with its views coded anew."""
    for heading in HEADINGS:
        with Image.open(folder / f"{heading}.jpg") as image:
            changed = image if size is None else image.resize((size, size))
            changed.save(scratch / f"{heading}.jpg", quality=quality)
    return PlaceFiles(str(scratch))


def main() -> None:
    folders = sorted(path for root in sys.argv[1:] for path in (Path(root) / "images").iterdir())
    hashes = np.stack([inspect_place(PlaceFiles(str(path)), [SPEC]).views["hash"] for path in folders])
    rows, ratios = {}, {}
    with tempfile.TemporaryDirectory() as name:
        for change, (size, quality) in CHANGES.items():
            told = [
                inspect_place(coded(path, Path(name), size, quality), [SPEC]).views["hash"] for path in folders
            ]
            bits = compute_hash_distance(hashes, np.stack(told))
            rows[change] = f"median {np.median(bits):g}, most {bits.max()} of 112 bits, {bits.size} views"
            ratios[change] = float(bits.max())
    apart = np.sort(compute_hash_distance(hashes[:, None], hashes[None]), axis=-1)[..., 2]
    third = apart[~np.eye(len(apart), dtype=bool)]
    rows["different places"] = (
        f"third most alike of four views: least {third.min()}, median {np.median(third):g} bits"
    )
    rows["taken for alike"] = f"up to {MAX_HASH_DISTANCE} bits in at least three views"
    ratios["different places"] = float(third.min())
    report(f"{len(folders)} places", rows, ratios)


if __name__ == "__main__":
    main()
