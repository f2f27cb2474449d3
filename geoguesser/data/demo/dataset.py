"""Demo data, `data=demo`: a synthetic country of drawn places on Croatian land, in the format of real data.

They are for the first run and the tests, and are no benchmark. `land.py` is the map, `scene_sampler.py` draws
scenes at random, `renderer.py` and `objects.py` paint them, and `workers.py` does so in several processes.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from geoguesser.arrays import FloatArray
from geoguesser.data.demo.land import get_synthetic_land
from geoguesser.data.demo.renderer import HEADINGS, compute_bearings
from geoguesser.data.demo.workers import Job, draw_all
from geoguesser.errors import check_int
from geoguesser.system.cpu import count_cores
from geoguesser.system.disk_cache import get_cache_folder

# Part of the name of the cache: raise it whenever a view or a position changes.
VERSION = 1
MAX_PLACES = 1_000_000

# Fewer places are drawn before further processes have started.
MIN_PLACES_FOR_PROCESSES = 100

# Function that is called with the number of finished places and of all places.
Progress = Callable[[int, int], None]


def make_demo(
    folder: Path, *, places: int = 1000, seed: int = 0, px: int = 224, progress: Progress | None = None
) -> Path:
    """Draws a synthetic dataset: `data.csv` and `images/<uuid>/{0,90,180,270}.jpg`.

    Place number i depends only on the seed and i, so that a smaller data set is the beginning of a larger one.
    `progress` is called after each place, from the calling thread.

    Raises ConfigError if an argument is out of range.
    """
    _check_arguments(places, seed, px)
    coords_deg = get_synthetic_land().draw_positions(seed, places)
    names = [make_demo_uuid(seed, index) for index in range(places)]
    (folder / "images").mkdir(parents=True, exist_ok=True)

    jobs = (
        _make_job(folder / "images" / name, seed, index, coords_deg[index], px) for index, name in enumerate(names)
    )
    processes = min(count_cores(), 8) if places >= MIN_PLACES_FOR_PROCESSES else 1
    for done, _ in enumerate(draw_all(jobs, processes), start=1):
        if progress is not None:
            progress(done, places)

    # The table comes last: a folder with a table is complete.
    rows = [f"{name},{lat:.6f},{lon:.6f}\n" for name, (lat, lon) in zip(names, coords_deg, strict=True)]
    (folder / "data.csv").write_text("uuid,latitude,longitude\n" + "".join(rows), encoding="utf-8")
    return folder


def ensure_demo(
    *,
    places: int = 1000,
    seed: int = 0,
    px: int = 224,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """Returns the folder of a synthetic dataset in `cache` (None for `cache_folder()`), drawn at its first use.

    The folder gets its name when it is complete. If two processes draw the same dataset, both take the one that is
    complete first.

    Raises ConfigError if an argument is out of range.
    """
    _check_arguments(places, seed, px)
    root = get_demo_folder(places=places, seed=seed, px=px, cache=cache)
    if _is_complete(root, places):
        return root

    root.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as scratch:
        new = make_demo(Path(scratch) / "new", places=places, seed=seed, px=px, progress=progress)
        _put_in_place(new, root, places, Path(scratch) / "old")
    return root


def _check_arguments(places: int, seed: int, px: int) -> None:
    check_int("data.places", places, low=1, high=MAX_PLACES)
    check_int("data.demo_seed", seed, low=0)
    check_int("data.px", px, low=16, high=2048)


def get_demo_folder(*, places: int, seed: int, px: int, cache: str | Path | None = None) -> Path:
    """Returns the folder in which `ensure_demo` stores a dataset, present or not."""
    home = Path(cache).expanduser() if cache is not None else get_cache_folder()
    return home / f"demo-v{VERSION}-{places}-{seed}-{px}"


def make_demo_uuid(seed: int, index: int) -> str:
    """Returns the id of a synthetic place: a UUID that is computed from seed and index."""
    digest = hashlib.sha256(f"geoguesser demo {seed} {index}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _make_job(folder: Path, seed: int, index: int, coords_deg: FloatArray, px: int) -> Job:
    land = get_synthetic_land()
    xy_m = land.region.to_metres(coords_deg[None])[0]
    horizons = tuple(land.compute_horizon(xy_m, compute_bearings(heading)) for heading in HEADINGS)
    return Job(str(folder), seed, index, px, land.compute_surroundings(xy_m), horizons)


def _is_complete(root: Path, places: int) -> bool:
    """Returns whether table and views are complete; a user may have deleted some."""
    table, images = root / "data.csv", root / "images"
    if not table.is_file() or not images.is_dir():
        return False

    names = [line.split(",")[0] for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    return len(names) == places and all(
        (images / name / f"{heading}.jpg").is_file() for name in names for heading in HEADINGS
    )


def _put_in_place(new: Path, root: Path, places: int, old: Path) -> None:
    """Renames `new` to `root`, unless another process was faster; an incomplete `root` is renamed to `old`."""
    try:
        new.rename(root)
    except OSError:
        if _is_complete(root, places):
            return
        root.rename(old)
        new.rename(root)
