"""Ten epochs with a frozen backbone: each run through it, once and kept, and taken from the cache.

    python benchmarks/feature_cache.py

Whole runs in one process, from the config to result.json, on 1,000 synthetic places at 112 px: reading the
table, checking files, grid, training, checkpoints and test are all in the time; imports are not. Each run
has its own folder. The ways with a cache are run several times, the one without once.
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

from measure import report

from geoguesser.data.demo.dataset import demo_root
from geoguesser.system.disk_cache import get_cache_folder

EPOCHS, PLACES, PX, ROUNDS = 10, 1000, 112, 2
WORDS = [
    *("image=px112", f"data.places={PLACES}", f"data.px={PX}", f"trainer.max_epochs={EPOCHS}"),
    *("callbacks.early_stopping=null", "pictures=false", "logger=csv", "trainer=auto"),
]


def one_run(folder: Path, *words: str) -> dict[str, Any]:
    """A run as the command line makes it; with `seconds`, and `cpu_s` of its threads (for busy machines)."""
    import hydra

    from geoguesser.commands.configs import conf_dir
    from geoguesser.commands.train import run_training

    with hydra.initialize_config_dir(conf_dir(), version_base="1.3"):
        config = hydra.compose("train", overrides=[*WORDS, *words])
    start, cpu = time.perf_counter(), time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):  # each run prints a table of its own
        result = run_training(config, folder)
    return result | {"seconds": time.perf_counter() - start, "cpu_s": time.process_time() - cpu}


def main() -> None:
    from geoguesser.data.datamodule import PlacesData
    from geoguesser.system.allocator import keep_freed_memory
    from geoguesser.system.log_filters import filter_logs
    from geoguesser.training.feature_cache import FeatureCache

    filter_logs()
    keep_freed_memory()
    root = demo_root(places=PLACES, px=PX)
    small = demo_root(places=60, px=PX)
    runs: dict[str, list[dict[str, Any]]] = {"backbone in each epoch": [], "cache empty": [], "cache filled": []}
    with tempfile.TemporaryDirectory(dir=get_cache_folder()) as scratch:
        own = Path(scratch) / "cache"
        own.mkdir()
        for one in (root, small):
            (own / one.name).symlink_to(one)
        os.environ["GEOGUESSER_CACHE"] = str(own)
        one_run(Path(scratch) / "warm-up", "data.places=60", "trainer.max_epochs=1")
        for number in range(ROUNDS):
            for kind in ("features", "examined"):
                shutil.rmtree(own / kind, ignore_errors=True)
            for way in ("cache empty", "cache filled"):
                runs[way].append(one_run(Path(scratch) / f"{way} {number}"))
        with patch.object(FeatureCache, "serve", return_value=None), patch.object(PlacesData, "condense_features"):
            runs["backbone in each epoch"].append(one_run(Path(scratch) / "without", "features.cache=false"))
    assert all(one["features"]["cached"] for one in runs["cache filled"])
    assert not any(one["features"]["cached"] for one in runs["cache empty"])
    seconds = {way: statistics.median(one["seconds"] for one in those) for way, those in runs.items()}
    cpu = {way: statistics.median(one["cpu_s"] for one in those) for way, those in runs.items()}
    rows = {}
    for way, those in runs.items():
        parts = ", ".join(
            f"{key[:-2]} {value:.2f}" for key, value in those[0]["times"].items() if key != "total_s"
        )
        rows[way] = (
            f"{seconds[way]:7.2f} s, CPU {cpu[way]:7.2f} s ({parts}; {those[0]['test']['error_km_mean']:.1f} km)"
        )
    over = seconds["backbone in each epoch"]
    ratios = {
        "without_over_filling": over / seconds["cache empty"],
        "without_over_filled": over / seconds["cache filled"],
        "without_over_filling_cpu": cpu["backbone in each epoch"] / cpu["cache empty"],
        "without_over_filled_cpu": cpu["backbone in each epoch"] / cpu["cache filled"],
    }
    report(f"{EPOCHS} frozen epochs over {PLACES} places at {PX} px", rows, ratios)


if __name__ == "__main__":
    main()
