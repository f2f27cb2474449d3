"""The data path against the predecessor's, against a bare gather and against the bare decoder; its memory.

python benchmarks/data_loading.py [reading] [preparing] [memory] [table] [real_coordinates.csv]

runs the parts named, or all of them.

Pictures are synthetic (benchmarks/photos.py). Decoding and reading run on one core, `prepare` and the bare
decoder on all. The optional file of real positions gives the million places of the table work their true
density; without it they are drawn in synthetic towns on Croatia's land.
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
from measure import interleaved, median_ratio, report
from photos import HEADINGS, KEEP_DOUBLES, make_root, peak_anonymous_mib

from geoguesser.data.augment import Augment
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import list_files
from geoguesser.data.prepare import prepare_store
from geoguesser.data.sources.places import PlacesDataModule, StoreDataModule
from geoguesser.data.splits import RandomSplit, StoredSplit
from geoguesser.data.store import shards as packing
from geoguesser.geo.region import country
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.system.cpu import count_cores

PLACES, PX, BATCH = 2000, 112, 32
TABLE = 1_000_000
REGION = country("HRV", "EPSG:3765")
SPEC = ImageSpec(size=PX)
PARTS = ("reading", "preparing", "memory", "table")


def source(root: Path) -> PlacesDataModule:
    split = RandomSplit(shares=[0.8, 0.1, 0.1])
    return PlacesDataModule(
        roots=[str(root)], region=REGION, image=SPEC, split=split, augment=Augment(), on_bad=KEEP_DOUBLES
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
    small = transforms.Compose([transforms.ToTensor(), transforms.Resize((px, px))])
    read = lambda path: small(Image.open(path).convert("RGB"))
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


def reading_the_store(name: str, store: Path) -> list[float]:
    """Seconds per image of each of eight rounds, on one core, in this process that does nothing else."""
    os.sched_setaffinity(0, {0})
    torch.set_num_threads(1)
    keep_freed_memory()  # as `train` does
    data = StoreDataModule(
        path=str(store), region=REGION, image=SPEC, split=StoredSplit(), augment=Augment(), batch_size=BATCH
    )
    data.read_views()
    loader, shard = data.loader("all", shuffle=True), data.store.views(SPEC).maps[0]
    rng = np.random.default_rng(0)
    some = [rng.permutation(PLACES)[:BATCH] for _ in range(PLACES // BATCH)]
    images = 4 * PLACES if name == "from the store" else 4 * BATCH * len(some)
    seconds = []
    for _ in range(8):
        start = time.perf_counter()
        held(loader if name == "from the store" else (shard[rows] for rows in some))
        seconds.append((time.perf_counter() - start) / images)
    return seconds


def held(batches: Iterable[Any]) -> None:
    """Takes batches as training does: the last one is held while the next is made."""
    for batch in batches:
        last = batch  # noqa: F841


def one_core(root: Path, store: Path) -> tuple[dict[str, str], dict[str, float | None]]:
    """The predecessor's way, ours from JPEG, ours from the store, and a bare gather of its one shard.

    Each way runs in processes of its own that import what it needs and no more. A new process is slower at
    the predecessor's way than one at work for a while, for the allocator learns to keep blocks of five megabytes:
    `first` is one pass over 160 images, `warm` the median of the passes after it.
    """
    paths = [
        str(root / "images" / f"place-{place}" / f"{heading}.jpg") for place in range(40) for heading in HEADINGS
    ]
    commands = {name: ["-c", BARE, name, str(PX), *paths] for name in ("predecessor", "from JPEG")}
    commands |= {name: [__file__, "--way", name, str(store)] for name in ("from the store", "bare gather")}
    told: dict[str, list[list[float]]] = {name: [] for name in commands}
    for number in range(5):
        for name in list(told) if number % 2 == 0 else reversed(list(told)):
            done = subprocess.run([sys.executable, *commands[name]], check=True, capture_output=True, text=True)
            told[name].append(json.loads(done.stdout))
    first = {name: [run[0] for run in runs] for name, runs in told.items()}
    warm = {name: [float(np.median(run[1:])) for run in runs] for name, runs in told.items()}
    rows = {
        f"{name} (one core)": f"{1 / float(np.median(warm[name])):,.0f} images/s; first pass of a new process "
        f"{1 / float(np.median(first[name])):,.0f}"
        for name in told
    }
    return rows, {
        "jpeg_over_predecessor_first": median_ratio(first["predecessor"], first["from JPEG"]),
        "jpeg_over_predecessor_warm": median_ratio(warm["predecessor"], warm["from JPEG"]),
        "store_over_predecessor_first": median_ratio(first["predecessor"], first["from the store"]),
        "store_over_predecessor_warm": median_ratio(warm["predecessor"], warm["from the store"]),
        "store_over_bare_gather": median_ratio(warm["bare gather"], warm["from the store"]),
    }


def all_cores(root: Path, scratch: Path) -> tuple[dict[str, str], dict[str, float | None]]:
    """`prepare` with all its checks against decoding alone, of the same files on all cores."""
    table = source(root).read_places()
    paths = [files.path(heading) for files in list_files(table) for heading in range(4)]
    numbers = itertools.count()

    def decoded(path: str) -> None:
        data = Path(path).read_bytes()
        image = simplejpeg.decode_jpeg(data, "RGB", min_height=PX, min_width=PX)
        cv2.resize(image, (PX, PX), interpolation=cv2.INTER_AREA)

    def decoded_only(path: str) -> None:
        simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB", min_height=PX, min_width=PX)

    def on_all(work: Any) -> None:
        with ThreadPoolExecutor(count_cores()) as pool:
            for start in range(0, len(paths), 4096):
                list(pool.map(work, paths[start : start + 4096], chunksize=1))

    def prepared() -> None:
        out = scratch / f"out-{next(numbers)}"
        prepare_store(source(root), [SPEC], out)
        shutil.rmtree(out)

    ways = {
        "bare decoder to 112 px": lambda: on_all(decoded),
        "bare decoder, not resized": lambda: on_all(decoded_only),
        "prepare": prepared,
    }
    seconds = interleaved(ways, rounds=5, warmup=1)
    rows = {
        f"{name} ({count_cores()} cores)": f"{len(paths) / float(np.median(times)):,.0f} images/s"
        for name, times in seconds.items()
    }
    return rows, {
        "prepare_over_bare_decoder": median_ratio(seconds["bare decoder to 112 px"], seconds["prepare"]),
        "prepare_over_decoder_without_resize": median_ratio(
            seconds["bare decoder, not resized"], seconds["prepare"]
        ),
    }


def memory(scratch: Path) -> tuple[dict[str, str], dict[str, float | None]]:
    """Peak anonymous memory at 400 and at 4,000 places."""
    peaks: dict[str, list[float]] = {}
    quick = ["logger=csv", "pictures=false", "trainer=cpu", "trainer.max_epochs=1", "compile=false"]
    small = ["backbone.name=mobilenetv3_small_050", "backbone.pretrained=false", "backbone.source=hub"]
    keeps = [f"data.on_bad.{kind}=keep" for kind in KEEP_DOUBLES]
    for places in (400, 4000):
        root, out = make_root(scratch / f"root-{places}", places), scratch / f"store-{places}"
        words = ["-m", "geoguesser.prepare", f"data.roots=[{root}]", *keeps, f"out={out}", "pictures=false"]
        peaks.setdefault("prepare", []).append(peak_anonymous_mib(words))
        train = ["-m", "geoguesser.train", "data=store", f"data.path={out}", *quick, *small]
        for name, more in (("train from pixels", ["augment=light"]), ("train from features", [])):
            run = [f"hydra.run.dir={scratch / f'run-{places}-{len(more)}'}"]
            peaks.setdefault(name, []).append(peak_anonymous_mib([*train, *more, *run]))
        shutil.rmtree(out)
    rows = {
        f"{name}, peak anonymous": f"{few:.0f} MiB at 400, {many:.0f} at 4,000"
        for name, (few, many) in peaks.items()
    }
    names = {name: f"memory_{name.replace(' ', '_')}" for name in peaks}
    return rows, {names[name]: many / few for name, (few, many) in peaks.items()}


TABLE_WORK = """
import json, sys, time
import numpy as np
from pathlib import Path
from geoguesser.data.checks.leakage import audit_split
from geoguesser.data.block_split import BlockSplit
from geoguesser.data.checks.findings import Findings
from geoguesser.data.places import drop_duplicates, drop_far, get_coords, read_csv
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country
times = {}
def lap(name):
    global start
    times[name] = time.perf_counter() - start
    start = time.perf_counter()
start = time.perf_counter()
region, findings = country("HRV", "EPSG:3765"), Findings()
table = drop_duplicates(read_csv(Path(sys.argv[1]), findings), findings)
table = drop_far(table, region, findings, 300.0)
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


def table_work(scratch: Path, positions: Path | None) -> tuple[dict[str, str], dict[str, float | None]]:
    """A million rows from a CSV file to splits, cells and audit: seconds, and peak anonymous memory."""
    rng = np.random.default_rng(0)
    if positions is not None:
        rows = np.loadtxt(positions, delimiter=",", skiprows=1, usecols=(1, 2))
    else:
        towns = rng.uniform((42.4, 13.5), (46.5, 19.4), (3000, 2))
        rows = towns[REGION.contains(towns)]
    coords = rows[rng.integers(0, len(rows), TABLE)] + rng.normal(0, 0.005, (TABLE, 2))
    file = scratch / "table.csv"
    with file.open("w") as out:
        out.write("uuid,latitude,longitude\n")
        out.writelines(f"p{number},{lat:.6f},{lon:.6f}\n" for number, (lat, lon) in enumerate(coords))
    words = [sys.executable, "-c", TABLE_WORK, str(file)]
    times = json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout.splitlines()[-1])
    peak = peak_anonymous_mib(["-c", TABLE_WORK, str(file)])
    told = {f"{TABLE:,} places: {name}": f"{seconds:.1f} s" for name, seconds in times.items()}
    total = sum(times.values())
    told[f"{TABLE:,} places: all"] = (
        f"{total:.1f} s, {peak:.0f} MiB ({'real' if positions else 'synthetic'} density)"
    )
    return told, {"table_seconds": total, "table_peak_gib": peak / 1024.0}


def main() -> None:
    if sys.argv[1:2] == ["--way"]:  # one_core starts this very script so
        print(json.dumps(reading_the_store(sys.argv[2], Path(sys.argv[3]))))
        return
    asked = {word for word in sys.argv[1:] if word in PARTS} or set(PARTS)
    files = [Path(word) for word in sys.argv[1:] if word not in PARTS]
    packing.SHARD_PLACES = 2**20  # one shard, so that the bare gather has the very same memory map
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        root = make_root(scratch / "root", PLACES)
        size = np.mean([path.stat().st_size for path in (root / "images").glob("place-?/*.jpg")]) / 1000
        prepare_store(source(root), [SPEC], scratch / "store")
        packing.SHARD_PLACES = 1024
        work: dict[str, Callable[[], tuple[dict[str, str], dict[str, float | None]]]] = {
            "reading": lambda: one_core(root, scratch / "store"),
            "preparing": lambda: all_cores(root, scratch),
            "memory": lambda: memory(scratch),
            "table": lambda: table_work(scratch, files[0] if files else None),
        }
        parts = [work[part]() for part in PARTS if part in asked]
    rows = {key: value for told, _ in parts for key, value in told.items()}
    ratios = {key: value for _, told in parts for key, value in told.items()}
    report(f"{PLACES:,} places, four synthetic 640-pixel JPEGs of {size:.0f} KB each, to {PX} px", rows, ratios)


if __name__ == "__main__":
    main()
