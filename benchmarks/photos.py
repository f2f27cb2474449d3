"""Helpers shared by the benchmarks: a data root of 640-pixel JPEG files, and the peak memory of a command.

The images are those of the synthetic demo, enlarged, with noise, so that files are about as large as street views.
Places beyond the first hundred are hard links to these files, so that thousands need no further disk space.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import simplejpeg

from geoguesser.data.demo.dataset import ensure_demo
from geoguesser.geo.region import country

DISTINCT = 100
HEADINGS = (0, 90, 180, 270)
KEEP_DUPLICATES = dict.fromkeys(("identical_image", "near_duplicate", "same_coordinates"), "keep")
# About 75 KB per file; files of the real sample have 79 KB.
QUALITY, NOISE = 82, 9.0


def make_root(folder: Path, places: int) -> Path:
    """Writes data.csv and images/<uuid>/{0,90,180,270}.jpg for a number of places on Croatia's land."""
    source = ensure_demo(places=DISTINCT, px=224)
    rng = np.random.default_rng(0)
    originals = sorted((source / "images").iterdir())

    region = country("HRV", "EPSG:3765")
    drawn = rng.uniform((42.4, 13.5), (46.5, 19.4), (20 * places, 2))
    coords = drawn[region.contains(drawn)][:places]

    rows = []
    for number in range(places):
        target = folder / "images" / f"place-{number}"
        target.mkdir(parents=True)
        for heading in HEADINGS:
            if number < DISTINCT:
                (target / f"{heading}.jpg").write_bytes(_make_photo(originals[number] / f"{heading}.jpg", rng))
            else:
                source_place = folder / "images" / f"place-{number % DISTINCT}"
                os.link(source_place / f"{heading}.jpg", target / f"{heading}.jpg")
        rows.append(f"place-{number},{coords[number][0]:.6f},{coords[number][1]:.6f}\n")

    (folder / "data.csv").write_text("uuid,latitude,longitude\n" + "".join(rows))
    return folder


def _make_photo(path: Path, rng: np.random.Generator) -> bytes:
    small = simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
    large = cv2.resize(small, (640, 640), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    noisy = np.clip(large + rng.normal(0, NOISE, large.shape), 0, 255).astype(np.uint8)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(noisy), quality=QUALITY, colorsubsampling="420")


def measure_peak_mib(words: list[str], env: dict[str, str] | None = None) -> float:
    """Runs a Python command and returns the peak anonymous memory of it and its children (Linux's RssAnon)."""
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | (env or {})
    )

    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(_read_anonymous_kib(pid) for pid in _list_processes(process.pid)) / 1024.0)
        time.sleep(0.02)

    if process.returncode:
        raise SystemExit(process.stderr.read().decode() if process.stderr else "failed")
    return peak


def _list_processes(pid: int) -> list[int]:
    """Returns a process and its descendants."""
    processes = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                processes += _list_processes(int(child))
    except OSError:
        # The process has ended.
        pass
    return processes


def _read_anonymous_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
