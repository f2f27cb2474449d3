"""The demo data, `data=demo`: a synthetic country of drawn places, in the format of real data.

Places lie on real Croatian land; each has four drawn views whose content depends on place and heading,
and nuisance that does not (weather, season, light, camera). It is what the first run and the tests use.
It is no benchmark: a figure on it says nothing about photographs. `demo_land` is the map, `demo_habits`
what stands at a place, `demo_render` and `demo_objects` draw it, `demo_draw` in several processes.
"""

from __future__ import annotations

import hashlib
import tempfile
import uuid
from collections.abc import Callable
from pathlib import Path

from geoguesser.arrays import FloatArray
from geoguesser.data.demo import workers as demo_draw
from geoguesser.data.demo.land import synthetic_land
from geoguesser.data.demo.renderer import HEADINGS, bearings_deg
from geoguesser.errors import check_int
from geoguesser.system.cpu import count_cores
from geoguesser.system.disk_cache import get_cache_folder

VERSION = 1  # part of the cache's name: raise it whenever a view or a position changes
MAX_PLACES = 1_000_000
WORTH_PROCESSES = 100  # places; fewer are drawn sooner than processes start
Progress = Callable[[int, int], None]


def make_demo(
    folder: Path, *, places: int = 1000, seed: int = 0, px: int = 224, progress: Progress | None = None
) -> Path:
    """Draws a synthetic dataset: `data.csv` and `images/<uuid>/{0,90,180,270}.jpg`.

    Place number i depends on the seed and i alone, so that fewer places are the first of more.

    Args:
        folder: Where to write; it is made.
        places: How many places.
        seed: Another seed, other places.
        px: Side of the square views.
        progress: Called with places done and places in all, from the calling thread.

    Returns:
        The folder.

    Raises:
        ConfigError: An argument is out of range.
    """
    check_int("data.places", places, low=1, high=MAX_PLACES)
    check_int("data.demo_seed", seed, low=0)
    check_int("data.px", px, low=16, high=2048)
    coords_deg = synthetic_land().positions(seed, places)
    names = [make_demo_uuid(seed, index) for index in range(places)]
    (folder / "images").mkdir(parents=True, exist_ok=True)

    jobs = (_job(folder / "images" / name, seed, index, coords_deg[index], px) for index, name in enumerate(names))
    processes = min(count_cores(), 8) if places >= WORTH_PROCESSES else 1
    for done, _ in enumerate(demo_draw.draw_all(jobs, processes), start=1):
        if progress is not None:
            progress(done, places)
    _write_table(folder / "data.csv", names, coords_deg)
    return folder


def demo_root(
    *,
    places: int = 1000,
    seed: int = 0,
    px: int = 224,
    cache: str | Path | None = None,
    progress: Progress | None = None,
) -> Path:
    """The folder of the synthetic dataset, drawn at its first use.

    It appears under its name only when it is complete. Two processes may ask for it at once: both draw,
    and the later one takes what the earlier one made.

    Args:
        places: How many places.
        seed: Another seed, other places.
        px: Side of the square views.
        cache: Where datasets are kept; None for `cache_folder()`.
        progress: As for `make_demo`; not called if the dataset is there already.

    Returns:
        The folder, as `make_demo` writes it.

    Raises:
        ConfigError: An argument is out of range.
    """
    check_int("data.places", places, low=1, high=MAX_PLACES)
    check_int("data.demo_seed", seed, low=0)
    check_int("data.px", px, low=16, high=2048)
    root = demo_folder(places=places, seed=seed, px=px, cache=cache)
    home = root.parent
    if _is_complete(root, places):
        return root
    home.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=home) as scratch:
        made = make_demo(Path(scratch) / "new", places=places, seed=seed, px=px, progress=progress)
        _put_in_place(made, root, places, Path(scratch) / "old")
    return root


def demo_folder(*, places: int, seed: int, px: int, cache: str | Path | None = None) -> Path:
    """Where `demo_root` keeps a dataset, whether it is there or not."""
    home = Path(cache).expanduser() if cache is not None else get_cache_folder()
    return home / f"demo-v{VERSION}-{places}-{seed}-{px}"


def make_demo_uuid(seed: int, index: int) -> str:
    """The id of a synthetic place: of a UUID's shape, but made from seed and index."""
    digest = hashlib.sha256(f"geoguesser demo {seed} {index}".encode()).digest()
    return str(uuid.UUID(bytes=digest[:16], version=4))


def _job(folder: Path, seed: int, index: int, coords_deg: FloatArray, px: int) -> demo_draw.Job:
    land = synthetic_land()
    xy_m = land.region.to_metres(coords_deg[None])[0]
    horizons = tuple(land.horizon(xy_m, bearings_deg(heading)) for heading in HEADINGS)
    return demo_draw.Job(str(folder), seed, index, px, land.surroundings(xy_m), horizons)


def _write_table(path: Path, names: list[str], coords_deg: FloatArray) -> None:
    """The table comes last: a folder that has it is complete."""
    rows = [f"{name},{lat:.6f},{lon:.6f}\n" for name, (lat, lon) in zip(names, coords_deg, strict=True)]
    path.write_text("uuid,latitude,longitude\n" + "".join(rows), encoding="utf-8")


def _is_complete(root: Path, places: int) -> bool:
    """Whether table and views are all there (a user may have deleted some)."""
    table, images = root / "data.csv", root / "images"
    if not table.is_file() or not images.is_dir():
        return False
    names = [line.split(",")[0] for line in table.read_text(encoding="utf-8").splitlines()[1:]]
    return len(names) == places and all(
        (images / name / f"{heading}.jpg").is_file() for name in names for heading in HEADINGS
    )


def _put_in_place(made: Path, root: Path, places: int, aside: Path) -> None:
    """Renames `made` to `root`, unless another process was faster; an incomplete `root` makes way."""
    try:
        made.rename(root)
    except OSError:
        if _is_complete(root, places):
            return
        root.rename(aside)
        made.rename(root)
