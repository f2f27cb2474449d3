"""Ten epochs with a frozen backbone: embedding in each epoch, with an empty cache, and with a filled cache.

    python benchmarks/feature_cache.py

Complete runs in one process, from the config to result.json, on 1,000 synthetic places at 112 px. The time
includes reading the table, checking files, grid, training, checkpoints and test, but not imports. Each run has its
own folder. The alternatives with a cache are repeated, the one without runs once.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest.mock import patch

from measure import print_report

from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.system.disk_cache import get_cache_folder

EPOCHS, PLACES, PX, ROUNDS = 10, 1000, 112, 2
WORDS = [
    *("image=px112", f"data.places={PLACES}", f"data.px={PX}", f"trainer.max_epochs={EPOCHS}"),
    *("callbacks.early_stopping=null", "pictures=false", "logger=csv", "trainer=auto"),
]


def run_once(folder: Path, *words: str) -> dict[str, Any]:
    """Returns the result of a run with its `seconds` and `cpu_s`, which is less sensitive to other work."""
    import hydra

    from geoguesser.commands.configs import conf_dir
    from geoguesser.commands.train import run_training

    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        config = hydra.compose("train", overrides=[*WORDS, *words])

    # Each run prints a table of its own.
    start, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        result = run_training(config, folder)
    return result | {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def main() -> None:
    from geoguesser.data.datamodule import PlacesData
    from geoguesser.system.allocator import keep_freed_memory
    from geoguesser.system.log_filters import filter_logs
    from geoguesser.training.feature_cache import FeatureCache

    filter_logs()
    keep_freed_memory()
    roots = [ensure_demo(places=places, px=PX) for places in (PLACES, 60)]
    runs: dict[str, list[dict[str, Any]]] = {"backbone in each epoch": [], "cache empty": [], "cache filled": []}
    with tempfile.TemporaryDirectory(dir=get_cache_folder()) as scratch:
        # A cache of its own, so that the user's features stay and only the demo's images are shared.
        cache = Path(scratch) / "cache"
        cache.mkdir()
        for root in roots:
            (cache / root.name).symlink_to(root)
        os.environ["GEOGUESSER_CACHE"] = str(cache)

        run_once(Path(scratch) / "warm-up", "data.places=60", "trainer.max_epochs=1")
        for number in range(ROUNDS):
            for kind in ("features", "examined"):
                shutil.rmtree(cache / kind, ignore_errors=True)
            for way in ("cache empty", "cache filled"):
                runs[way].append(run_once(Path(scratch) / f"{way} {number}"))

        with patch.object(FeatureCache, "serve", return_value=None), patch.object(PlacesData, "condense_features"):
            runs["backbone in each epoch"].append(run_once(Path(scratch) / "without", "features.cache=false"))
    assert all(result["features"]["cached"] for result in runs["cache filled"])
    assert not any(result["features"]["cached"] for result in runs["cache empty"])

    seconds = {way: statistics.median(result["seconds"] for result in results) for way, results in runs.items()}
    cpu = {way: statistics.median(result["cpu_s"] for result in results) for way, results in runs.items()}
    rows = {}
    for way, results in runs.items():
        parts = ", ".join(
            f"{key[:-2]} {value:.2f}" for key, value in results[0]["times"].items() if key != "total_s"
        )
        rows[way] = (
            f"{seconds[way]:7.2f} s, CPU {cpu[way]:7.2f} s ({parts}; {results[0]['test']['error_km_mean']:.1f} km)"
        )

    without = seconds["backbone in each epoch"]
    ratios = {
        "without_over_filling": without / seconds["cache empty"],
        "without_over_filled": without / seconds["cache filled"],
        "without_over_filling_cpu": cpu["backbone in each epoch"] / cpu["cache empty"],
        "without_over_filled_cpu": cpu["backbone in each epoch"] / cpu["cache filled"],
    }
    print_report(f"{EPOCHS} frozen epochs over {PLACES} places at {PX} px", rows, ratios)


if __name__ == "__main__":
    main()
