"""The data path against the predecessor's, against a bare gather and against the bare decoder; its memory.

python benchmarks/data_loading.py [real_coordinates.csv]

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
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from measure import interleaved, median_ratio, report
from photos import KEEP_DOUBLES, make_root, peak_anonymous_mib
from PIL import Image
from torch.nn import functional

from geoguesser.data import packing
from geoguesser.data.augment import Augment
from geoguesser.data.datamodule import PlacesDataModule, StoreDataModule
from geoguesser.data.examine import cores
from geoguesser.data.images import ImageSpec
from geoguesser.data.places import files_of
from geoguesser.data.preparing import prepare
from geoguesser.data.splits import RandomSplit, StoredSplit
from geoguesser.data.views import FileViews
from geoguesser.geo.region import country

PLACES, PX, BATCH = 2000, 112, 32
TABLE = 1_000_000
REGION = country("HRV", "EPSG:3765")
SPEC = ImageSpec(size=PX)


def source(root: Path) -> PlacesDataModule:
    split = RandomSplit(shares=[0.8, 0.1, 0.1])
    return PlacesDataModule(
        roots=[str(root)], region=REGION, image=SPEC, split=split, augment=Augment(), on_bad=KEEP_DOUBLES
    )


def predecessor(path: str) -> torch.Tensor:
    """PIL, to a float tensor of all 640 x 640 pixels, then the tensor is resized."""
    pixels = torch.from_numpy(np.array(Image.open(path).convert("RGB"))).permute(2, 0, 1).float() / 255.0
    return functional.interpolate(pixels[None], (PX, PX), mode="bilinear", antialias=True)[0]


def one_core(root: Path, store: Path) -> tuple[dict[str, str], dict[str, float | None]]:
    """Images a second on one core: the predecessor's way, ours from JPEG, ours from the store, a bare gather."""
    os.sched_setaffinity(0, {0})
    torch.set_num_threads(1)
    table = source(root).read_places()
    views = FileViews(files_of(table), SPEC)
    paths = [files.path(heading) for files in views.places[:20] for heading in range(4)]
    data = StoreDataModule(
        path=str(store), region=REGION, image=SPEC, split=StoredSplit(), augment=Augment(), batch_size=BATCH
    )
    data.read_views()
    loader = data.loader("all", shuffle=True)
    shard = data.store.views(SPEC).maps[0]  # one shard holds all of them here
    rng = np.random.default_rng(0)
    some = [rng.permutation(PLACES)[:BATCH] for _ in range(-(-PLACES // BATCH))]
    ways = {
        "predecessor": lambda: [predecessor(path) for path in paths],
        "from JPEG": lambda: views.gather(np.arange(20)),
        "from the store": lambda: [batch.images for batch in loader],
        "bare gather": lambda: [shard[rows] for rows in some],
    }
    images = {
        "predecessor": 80,
        "from JPEG": 80,
        "from the store": 4 * PLACES,
        "bare gather": 4 * BATCH * len(some),
    }
    seconds = interleaved(ways, rounds=7)
    each = {name: [value / images[name] for value in times] for name, times in seconds.items()}
    rows = {f"{name} (one core)": f"{1 / float(np.median(times)):,.0f} images/s" for name, times in each.items()}
    ratios: dict[str, float | None] = {
        "jpeg_over_predecessor": median_ratio(each["predecessor"], each["from JPEG"]),
        "store_over_predecessor": median_ratio(each["predecessor"], each["from the store"]),
        "store_over_bare_gather": median_ratio(each["bare gather"], each["from the store"]),
    }
    os.sched_setaffinity(0, set(range(os.cpu_count() or 1)))
    return rows, ratios


def all_cores(root: Path, scratch: Path) -> tuple[dict[str, str], dict[str, float | None]]:
    """`prepare` with all its checks against decoding alone, of the same files on all cores."""
    table = source(root).read_places()
    paths = [files.path(heading) for files in files_of(table) for heading in range(4)]
    numbers = itertools.count()

    def decoded(path: str) -> None:
        data = Path(path).read_bytes()
        image = simplejpeg.decode_jpeg(data, "RGB", min_height=PX, min_width=PX)
        cv2.resize(image, (PX, PX), interpolation=cv2.INTER_AREA)

    def decoded_only(path: str) -> None:
        simplejpeg.decode_jpeg(Path(path).read_bytes(), "RGB", min_height=PX, min_width=PX)

    def on_all(work: Any) -> None:
        with ThreadPoolExecutor(cores()) as pool:
            for start in range(0, len(paths), 4096):
                list(pool.map(work, paths[start : start + 4096], chunksize=1))

    def prepared() -> None:
        out = scratch / f"out-{next(numbers)}"
        prepare(source(root), [SPEC], out)
        shutil.rmtree(out)

    ways = {
        "bare decoder to 112 px": lambda: on_all(decoded),
        "bare decoder, not resized": lambda: on_all(decoded_only),
        "prepare": prepared,
    }
    seconds = interleaved(ways, rounds=5, warmup=1)
    rows = {
        f"{name} ({cores()} cores)": f"{len(paths) / float(np.median(times)):,.0f} images/s"
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
from geoguesser.data.audit import audit
from geoguesser.data.blocks import BlockSplit
from geoguesser.data.findings import Findings
from geoguesser.data.places import coords_of, read_csv, without_duplicates, without_far
from geoguesser.geo.grid import SquareGrid
from geoguesser.geo.region import country
times = {}
def lap(name):
    global start
    times[name] = time.perf_counter() - start
    start = time.perf_counter()
start = time.perf_counter()
region, findings = country("HRV", "EPSG:3765"), Findings()
table = without_duplicates(read_csv(Path(sys.argv[1]), findings), findings)
table = without_far(table, region, findings, 300.0)
lap("check rows")
splits = BlockSplit(block_km=20.0, buffer_km=1.0, shares=[0.8, 0.1, 0.1]).assign(table, region)
lap("split by blocks")
coords = coords_of(table)
grid = SquareGrid(size=60).fit(region, coords[splits == "train"])
grid.assign(coords)
lap("assign cells")
audit(coords, splits)
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
    positions = Path(sys.argv[1]) if len(sys.argv) > 1 else None
    packing.SHARD_PLACES = 2**20  # one shard, so that the bare gather has the very same memory map
    with tempfile.TemporaryDirectory() as name:
        scratch = Path(name)
        root = make_root(scratch / "root", PLACES)
        size = np.mean([path.stat().st_size for path in (root / "images").glob("place-?/*.jpg")]) / 1000
        prepare(source(root), [SPEC], scratch / "store")
        parts = [one_core(root, scratch / "store")]
        packing.SHARD_PLACES = 1024
        parts += [all_cores(root, scratch), memory(scratch), table_work(scratch, positions)]
    rows = {key: value for told, _ in parts for key, value in told.items()}
    ratios = {key: value for _, told in parts for key, value in told.items()}
    report(f"{PLACES:,} places, four synthetic 640-pixel JPEGs of {size:.0f} KB each, to {PX} px", rows, ratios)


if __name__ == "__main__":
    main()
