"""Speed and memory of the data path, compared with the predecessor, a bare gather and the bare decoder.

python benchmarks/data_loading.py [reading] [preparing] [memory] [table] [real_coordinates.csv]

runs the parts named, or all of them.

Images are synthetic (benchmarks/photos.py). Decoding and reading run on one core, `prepare` and the bare decoder
on all. The optional file of real positions gives the million places of the part `table` their true density;
without it they are drawn in synthetic towns on Croatia's land.
"""

from __future__ import annotations

import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from measure import compute_median_ratio, print_report, time_interleaved
from photos import HEADINGS, KEEP_DUPLICATES, make_root, measure_peak_mib

from geoguesser.data.augment import Augment
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import list_files
from geoguesser.data.prepare import prepare_store
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.sources.store import StoreDataModule
from geoguesser.data.splits import RandomSplit, StoredSplit
from geoguesser.data.store import shards
from geoguesser.geo.region import country
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.system.cpu import count_cores

PLACES, PX, BATCH = 2000, 112, 32
TABLE = 1_000_000
REGION = country("HRV", "EPSG:3765")
SPEC = ImageSpec(size=PX)
PARTS = ("reading", "preparing", "memory", "table")

# Rows of the table, and ratios.
Figures = tuple[dict[str, str], dict[str, float | None]]


def make_source(root: Path) -> PlacesDataModule:
    split = RandomSplit(shares=[0.8, 0.1, 0.1])
    return PlacesDataModule(
        roots=[str(root)], region=REGION, image=SPEC, split=split, augment=Augment(), on_bad=KEEP_DUPLICATES
    )


BARE = """
import json, os, sys, time
os.sched_setaffinity(0, {0})
way, px, paths = sys.argv[1], int(sys.argv[2]), sys.argv[3:]
if way == "predecessor":
    import torch
    from PIL import Image
    from torchvision import transforms
    torch.set_num_threads(1)
    transform = transforms.Compose([transforms.ToTensor(), transforms.Resize((px, px))])
    read = lambda path: transform(Image.open(path).convert("RGB"))
else:
    from geoguesser.data.images import ImageSpec
    read = ImageSpec(size=px).read
seconds = []
for _ in range(6):
    start = time.perf_counter()
    views = [read(path) for path in paths]
    seconds.append((time.perf_counter() - start) / len(paths))
print(json.dumps(seconds))
"""


def time_store(name: str, store: Path) -> list[float]:
    """Returns the seconds per image of eight rounds on one core, in a process that does nothing else."""
    os.sched_setaffinity(0, {0})
    torch.set_num_threads(1)
    # As in training.
    keep_freed_memory()

    data = StoreDataModule(
        path=str(store), region=REGION, image=SPEC, split=StoredSplit(), augment=Augment(), batch_size=BATCH
    )
    data.read_views()
    loader, shard = data.loader("all", shuffle=True), data.store.views(SPEC).maps[0]
    rng = np.random.default_rng(0)
    rows = [rng.permutation(PLACES)[:BATCH] for _ in range(PLACES // BATCH)]
    images = 4 * PLACES if name == "from the store" else 4 * BATCH * len(rows)

    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        consume(loader if name == "from the store" else (shard[batch] for batch in rows))
        seconds.append((time.perf_counter() - start) / images)
    return seconds


def consume(batches: Iterable[Any]) -> None:
    """Iterates over batches as training does: each batch lives until the next one is made."""
    for batch in batches:
        last = batch  # noqa: F841


def compare_reading(root: Path, store: Path) -> Figures:
    """Compares the predecessor, reading from JPEG, reading from the store, and a bare gather from its shard.

    Each way runs in processes of its own with only the imports it needs. The first pass of a new process is slower
    for the predecessor, because the allocator does not yet keep freed blocks of five megabytes. Therefore the
    first pass over 160 images and the median of the later passes are reported separately.
    """
    paths = [
        str(root / "images" / f"place-{place}" / f"{heading}.jpg") for place in range(40) for heading in HEADINGS
    ]
    commands = {name: ["-c", BARE, name, str(PX), *paths] for name in ("predecessor", "from JPEG")}
    commands |= {name: [__file__, "--way", name, str(store)] for name in ("from the store", "bare gather")}

    runs: dict[str, list[list[float]]] = {name: [] for name in commands}
    for number in range(5):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            completed = subprocess.run(
                [sys.executable, *commands[name]], check=True, capture_output=True, text=True
            )
            runs[name].append(json.loads(completed.stdout))

    first = {name: [passes[0] for passes in processes] for name, processes in runs.items()}
    warm = {name: [float(np.median(passes[1:])) for passes in processes] for name, processes in runs.items()}
    rows = {
        f"{name} (one core)": f"{1 / float(np.median(warm[name])):,.0f} images/s; first pass of a new process "
        f"{1 / float(np.median(first[name])):,.0f}"
        for name in runs
    }
    return rows, {
        "jpeg_over_predecessor_first": compute_median_ratio(first["predecessor"], first["from JPEG"]),
        "jpeg_over_predecessor_warm": compute_median_ratio(warm["predecessor"], warm["from JPEG"]),
        "store_over_predecessor_first": compute_median_ratio(first["predecessor"], first["from the store"]),
        "store_over_predecessor_warm": compute_median_ratio(warm["predecessor"], warm["from the store"]),
        "store_over_bare_gather": compute_median_ratio(warm["bare gather"], warm["from the store"]),
    }


def compare_preparing(root: Path, scratch: Path) -> Figures:
    """Compares `prepare` with bare decoding of the same files, on all cores."""
    table = make_source(root).read_places()
    paths = [files.path(heading) for files in list_files(table) for heading in range(4)]
    numbers = itertools.count()

    def decode_and_resize(path: str) -> None:
        data = Path(path).read_bytes()
        image = simplejpeg.decode_jpeg(data, "RGB", min_height=PX, min_width=PX)
        cv2.resize(image, (PX, PX), interpolation=cv2.INTER_AREA)

    def decode(path: str) -> None:
        simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB", min_height=PX, min_width=PX)

    def run_on_all_cores(work: Any) -> None:
        with ThreadPoolExecutor(count_cores()) as pool:
            for start in range(0, len(paths), 4096):
                list(pool.map(work, paths[start : start + 4096], chunksize=1))

    def prepare() -> None:
        out = scratch / f"out-{next(numbers)}"
        prepare_store(make_source(root), [SPEC], out)
        shutil.rmtree(out)

    ways = {
        "bare decoder to 112 px": lambda: run_on_all_cores(decode_and_resize),
        "bare decoder, not resized": lambda: run_on_all_cores(decode),
        "prepare": prepare,
    }
    seconds = time_interleaved(ways, rounds=5, warmup=1)
    rows = {
        f"{name} ({count_cores()} cores)": f"{len(paths) / float(np.median(times)):,.0f} images/s"
        for name, times in seconds.items()
    }
    return rows, {
        "prepare_over_bare_decoder": compute_median_ratio(seconds["bare decoder to 112 px"], seconds["prepare"]),
        "prepare_over_decoder_without_resize": compute_median_ratio(
            seconds["bare decoder, not resized"], seconds["prepare"]
        ),
    }


def measure_memory(scratch: Path) -> Figures:
    """Measures the peak anonymous memory with 400 and with 4,000 places."""
    peaks: dict[str, list[float]] = {}
    common = ["logger=csv", "pictures=false", "trainer=cpu", "trainer.max_epochs=1", "compile=false"]
    backbone = ["backbone.name=mobilenetv3_small_050", "backbone.pretrained=false", "backbone.source=hub"]
    keep = [f"data.on_bad.{kind}=keep" for kind in KEEP_DUPLICATES]

    for places in (400, 4000):
        root, out = make_root(scratch / f"root-{places}", places), scratch / f"store-{places}"
        words = ["-m", "geoguesser.prepare", f"data.roots=[{root}]", *keep, f"out={out}", "pictures=false"]
        peaks.setdefault("prepare", []).append(measure_peak_mib(words))

        train = ["-m", "geoguesser.train", "data=store", f"data.path={out}", *common, *backbone]
        for name, overrides in (("train from pixels", ["augment=light"]), ("train from features", [])):
            folder = f"hydra.run.dir={scratch / f'run-{places}-{len(overrides)}'}"
            peaks.setdefault(name, []).append(measure_peak_mib([*train, *overrides, folder]))
        shutil.rmtree(out)

    rows = {
        f"{name}, peak anonymous": f"{small:.0f} MiB at 400, {large:.0f} at 4,000"
        for name, (small, large) in peaks.items()
    }
    names = {name: f"memory_{name.replace(' ', '_')}" for name in peaks}
    return rows, {names[name]: large / small for name, (small, large) in peaks.items()}


TABLE_CODE = """
import json, sys, time
import numpy as np
from pathlib import Path
from geoguesser.data.checks.leakage import audit_split
from geoguesser.data.block_split import BlockSplit
from geoguesser.data.checks.findings import Findings
from geoguesser.data.places import drop_far_places, drop_repeated_ids, get_coords, read_csv
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country
times = {}
def lap(name):
    global start
    times[name] = time.perf_counter() - start
    start = time.perf_counter()
start = time.perf_counter()
region, findings = country("HRV", "EPSG:3765"), Findings()
table = drop_repeated_ids(read_csv(Path(sys.argv[1]), findings), findings)
table = drop_far_places(table, region, findings, 300.0)
lap("check rows")
splits = BlockSplit(block_km=20.0, buffer_km=1.0, shares=[0.8, 0.1, 0.1]).assign(table, region)
lap("split by blocks")
coords = get_coords(table)
grid = SquareGrid(size=60).fit(region, coords[splits == "train"])
grid.assign(coords)
lap("assign cells")
audit_split(coords, splits)
lap("audit")
print(json.dumps(times))
"""


def measure_table(scratch: Path, positions: Path | None) -> Figures:
    """Measures seconds and peak memory of a million rows from a CSV file to splits, cells and audit."""
    rng = np.random.default_rng(0)
    if positions is not None:
        towns = np.loadtxt(positions, delimiter=",", skiprows=1, usecols=(1, 2))
    else:
        drawn = rng.uniform((42.4, 13.5), (46.5, 19.4), (3000, 2))
        towns = drawn[REGION.contains(drawn)]
    coords = towns[rng.integers(0, len(towns), TABLE)] + rng.normal(0, 0.005, (TABLE, 2))

    file = scratch / "table.csv"
    with file.open("w") as out:
        out.write("uuid,latitude,longitude\n")
        out.writelines(f"p{number},{lat:.6f},{lon:.6f}\n" for number, (lat, lon) in enumerate(coords))

    command = [sys.executable, "-c", TABLE_CODE, str(file)]
    times = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    peak_mib = measure_peak_mib(["-c", TABLE_CODE, str(file)])

    rows = {f"{TABLE:,} places: {name}": f"{seconds:.1f} s" for name, seconds in times.items()}
    total = sum(times.values())
    rows[f"{TABLE:,} places: all"] = (
        f"{total:.1f} s, {peak_mib:.0f} MiB ({'real' if positions else 'synthetic'} density)"
    )
    return rows, {"table_seconds": total, "table_peak_gib": peak_mib / 1024.0}


def main() -> None:
    # `compare_reading` starts this script with --way.
    if sys.argv[1:2] == ["--way"]:
        print(json.dumps(time_store(sys.argv[2], Path(sys.argv[3]))))
        return

    requested = {word for word in sys.argv[1:] if word in PARTS} or set(PARTS)
    files = [Path(word) for word in sys.argv[1:] if word not in PARTS]

    # With a single shard, the bare gather reads the same memory map.
    shards.SHARD_PLACES = 2**20
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        root = make_root(scratch / "root", PLACES)
        size = np.mean([path.stat().st_size for path in (root / "images").glob("place-?/*.jpg")]) / 1000
        prepare_store(make_source(root), [SPEC], scratch / "store")
        shards.SHARD_PLACES = 1024

        work: dict[str, Callable[[], Figures]] = {
            "reading": lambda: compare_reading(root, scratch / "store"),
            "preparing": lambda: compare_preparing(root, scratch),
            "memory": lambda: measure_memory(scratch),
            "table": lambda: measure_table(scratch, files[0] if files else None),
        }
        parts = [work[part]() for part in PARTS if part in requested]

    rows = {name: value for part_rows, _ in parts for name, value in part_rows.items()}
    ratios = {name: value for _, part_ratios in parts for name, value in part_ratios.items()}
    print_report(
        f"{PLACES:,} places, four synthetic 640-pixel JPEGs of {size:.0f} KB each, to {PX} px", rows, ratios
    )


if __name__ == "__main__":
    main()
