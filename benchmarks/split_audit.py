"""Random and block splits at real density: shares, and distances of test places to training places.

python benchmarks/split_audit.py real_coordinates.csv     (columns uuid, latitude, longitude)
"""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pandas as pd
from measure import print_report

from geoguesser.data.block_split import BlockSplit
from geoguesser.data.checks.leakage import audit_split
from geoguesser.data.places import get_coords
from geoguesser.data.splits import SPLIT_NAMES, UNUSED, RandomSplit, Split
from geoguesser.geo.region import country

SHARES = [0.8, 0.1, 0.1]


def main() -> None:
    table = pd.read_csv(sys.argv[1], dtype={"uuid": str})
    region = country("HRV", "EPSG:3765")
    splits: dict[str, Split] = {"random": RandomSplit(shares=SHARES)}
    for block_km, buffer_km in ((10.0, 0.5), (20.0, 1.0), (40.0, 1.0)):
        name = f"blocks of {block_km:g} km, buffer {buffer_km:g} km"
        splits[name] = BlockSplit(block_km=block_km, buffer_km=buffer_km, shares=SHARES)

    rows: dict[str, str] = {}
    ratios: dict[str, float] = {}
    for name, split in splits.items():
        assigned = split.assign(table, region)
        test: dict[str, Any] = audit_split(get_coords(table), assigned)["test"]
        shares = ", ".join(f"{part} {(assigned == part).mean():.1%}" for part in (*SPLIT_NAMES, UNUSED))
        near = ", ".join(
            f"{count / test['places']:.1%} within {metres} m" for metres, count in test["within_m"].items()
        )

        rows[name] = f"{shares}; of the test places {near}; median {test['nearest_training_km']['p50']:.2f} km"
        ratios[f"{name}: test within 500 m"] = test["within_m"]["500"] / test["places"]
        ratios[f"{name}: unused"] = float(np.mean(assigned == UNUSED))
    print_report(f"{len(table):,} places of {sys.argv[1].rsplit('/', 1)[-1]}", rows, ratios)


if __name__ == "__main__":
    main()
