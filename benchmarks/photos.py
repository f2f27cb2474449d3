"""Shared by benchmarks: a root of 640-pixel JPEG files about as heavy as street views, and memory of a command.

The pictures are the synthetic demo's, enlarged, with noise; places beyond the first hundred are hard links to
them under other names, so that thousands cost no disk.
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
KEEP_DOUBLES = dict.fromkeys(("identical_image", "near_duplicate", "same_coordinates"), "keep")
QUALITY, NOISE = 82, 9.0  # about 75 KB each, as the real sample's (79 KB)


def make_root(folder: Path, places: int) -> Path:
    """Writes data.csv and images/<uuid>/{0,90,180,270}.jpg for so many places on Croatia's land."""
    source = ensure_demo(places=DISTINCT, px=224)
    rng = np.random.default_rng(0)
    originals = sorted((source / "images").iterdir())
    rows = []
    region = country("HRV", "EPSG:3765")
    drawn = rng.uniform((42.4, 13.5), (46.5, 19.4), (20 * places, 2))
    coords = drawn[region.contains(drawn)][:places]
    for number in range(places):
        own = folder / "images" / f"place-{number}"
        own.mkdir(parents=True)
        for heading in HEADINGS:
            if number < DISTINCT:
                (own / f"{heading}.jpg").write_bytes(_photo(originals[number] / f"{heading}.jpg", rng))
            else:
                os.link(
                    folder / "images" / f"place-{number % DISTINCT}" / f"{heading}.jpg", own / f"{heading}.jpg"
                )
        rows.append(f"place-{number},{coords[number][0]:.6f},{coords[number][1]:.6f}\n")
    (folder / "data.csv").write_text("uuid,latitude,longitude\n" + "".join(rows))
    return folder


def _photo(path: Path, rng: np.random.Generator) -> bytes:
    small = simplejpeg.decode_jpeg(path.read_bytes(), "RGB")
    large = cv2.resize(small, (640, 640), interpolation=cv2.INTER_CUBIC).astype(np.float32)
    noisy = np.clip(large + rng.normal(0, NOISE, large.shape), 0, 255).astype(np.uint8)
    return simplejpeg.encode_jpeg(np.ascontiguousarray(noisy), quality=QUALITY, colorsubsampling="420")


def peak_anonymous_mib(words: list[str], env: dict[str, str] | None = None) -> float:
    """Runs a Python command and returns the peak of its and its children's anonymous memory (Linux's RssAnon)."""
    process = subprocess.Popen(
        [sys.executable, *words], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, env=os.environ | (env or {})
    )
    peak = 0.0
    while process.poll() is None:
        peak = max(peak, sum(_anonymous_kib(pid) for pid in _family(process.pid)) / 1024.0)
        time.sleep(0.02)
    if process.returncode:
        raise SystemExit(process.stderr.read().decode() if process.stderr else "failed")
    return peak


def _family(pid: int) -> list[int]:
    found = [pid]
    try:
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += _family(int(child))
    except OSError:
        pass
    return found


def _anonymous_kib(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
