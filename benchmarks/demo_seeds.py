"""Test error of the default run on the synthetic demo relative to the best constant, for several seeds.

    python benchmarks/demo_seeds.py

Each seed also draws its own split. The last line is one JSON object of ratios to the best constant.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import hydra
import numpy as np

from geoguesser.commands.configs import conf_dir
from geoguesser.commands.train import run_training
from geoguesser.system.log_filters import filter_logs

SEEDS = range(5)


def main() -> None:
    filter_logs()

    ratios, lines = [], []
    with tempfile.TemporaryDirectory() as scratch, hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        for seed in SEEDS:
            overrides = [f"seed={seed}", f"split.seed={seed}", "pictures=false", "logger=csv"]
            result = run_training(hydra.compose("train", overrides=overrides), Path(scratch) / str(seed))

            model, baseline = result["test"]["error_km_mean"], result["baseline"]
            constant, nearest = (baseline[name]["error_km_mean"] for name in ("best_constant", "nearest"))
            ratios.append(model / constant)
            lines.append(
                f"  seed {seed}: model {model:.1f} km, nearest look-alike {nearest:.1f} km, "
                f"best constant {constant:.1f} km, ratio {model / constant:.3f}"
            )

    print("Default run on the synthetic demo (1,000 places)", *lines, sep="\n")
    print(json.dumps({"mean_ratio": round(float(np.mean(ratios)), 4), "worst_ratio": round(max(ratios), 4)}))


if __name__ == "__main__":
    main()
