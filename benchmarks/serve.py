"""Load run of the server: places a second through HTTP against the bare decode and forward of the same photos.

    python benchmarks/serve.py RUN_FOLDER [--clients 16] [--requests 96] [--rounds 5] [--threads 2]

Two servers are started as a user would, one that batches and one that does not (limits.batch=1), and asked in turn
by so many clients at once; in between this process itself decodes the same photos and sends them through the same
network, in batches of 16 and one by one. Each request is a place: four photos of 640 pixels, about 300 KB. The
clients share the machine with the server, as they do on a laptop.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import torch
from measure import interleaved, median_ratio, report
from photos import HEADINGS, make_root

from geoguesser.app.limits import Limits
from geoguesser.app.uploads import COMPASS, read_views
from geoguesser.inference.ensemble import Ensemble
from geoguesser.system.allocator import keep_freed_memory

PLACES, BATCH = 48, 16
BOUNDARY = "----a-place-with-four-photos"
KIND = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@contextmanager
def served(run: Path, *words: str) -> Iterator[str]:
    """The address of a server of its own process."""
    command = [sys.executable, "-m", "geoguesser.serve", f"run={run}", "port=0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if found := re.search(r"http://\S+/", line):
                yield found[0]
                return
        raise SystemExit("the server has not started")
    finally:
        process.terminate()
        process.wait()


def body_of(photos: list[bytes]) -> bytes:
    """A place as the body of a request, made beforehand."""
    out = b""
    for name, data in zip(COMPASS, photos, strict=True):
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n'
        out += head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + data + b"\r\n"
    return out + f"--{BOUNDARY}--\r\n".encode()


async def ask_all(address: str, bodies: list[bytes], clients: int) -> list[float]:
    """Sends all, so many at once; each one's seconds."""
    left, seconds = iter(bodies), []

    async def client(session: aiohttp.ClientSession) -> None:
        for body in left:
            start = time.perf_counter()
            async with session.post(f"{address}api/v1/predict", data=body, headers=KIND) as answer:
                assert answer.status == 200, await answer.text()
                await answer.read()
            seconds.append(time.perf_counter() - start)

    async with aiohttp.ClientSession() as session:
        await asyncio.gather(*(client(session) for _ in range(clients)))
    return seconds


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path)
    parser.add_argument("--clients", type=int, default=16)
    parser.add_argument("--requests", type=int, default=96)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--threads", type=int, default=os.cpu_count() or 1, help="torch's, of servers and bare forward"
    )
    given = parser.parse_args()
    keep_freed_memory()
    torch.set_num_threads(given.threads)
    ensemble, limits = Ensemble.load([given.run]), Limits()
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder) / "root", PLACES) / "images"
        places = [
            [(one / f"{heading}.jpg").read_bytes() for heading in HEADINGS] for one in sorted(root.iterdir())
        ]
    places = [places[number % PLACES] for number in range(given.requests)]
    bodies = [body_of(photos) for photos in places]
    views = [read_views(photos, ensemble.specs, limits) for photos in places]
    latencies: dict[str, list[float]] = {"batches": [], "one by one": []}

    def forward(step: int) -> None:
        for start in range(0, len(views), step):
            some = views[start : start + step]
            images = [torch.cat(parts) for parts in zip(*(images for images, _ in some), strict=True)]
            ensemble.predict(images, torch.cat([mask for _, mask in some]))

    def decode() -> None:
        for photos in places:
            read_views(photos, ensemble.specs, limits)

    own = f"threads={given.threads}"
    with (
        served(given.run, own) as batching,
        served(given.run, own, "limits.batch=1", "limits.wait_ms=0") as single,
    ):
        addresses = {"batches": batching, "one by one": single}

        def load(name: str) -> None:
            latencies[name] += asyncio.run(ask_all(addresses[name], bodies, given.clients))

        seconds = interleaved(
            {
                "served, batches": lambda: load("batches"),
                "served, one by one": lambda: load("one by one"),
                "bare forward, batches of 16": lambda: forward(BATCH),
                "bare forward, one by one": lambda: forward(1),
                "bare decode, one thread": decode,
            },
            rounds=given.rounds,
            warmup=1,
        )
    rows = {name: f"{given.requests / statistics.median(some):.1f} places/s" for name, some in seconds.items()}
    for name, some in latencies.items():
        middle, late = np.percentile(some[given.requests :], [50, 95]) * 1000  # without the warm-up's
        rows[f"latency, {name}"] = f"p50 {middle:.0f} ms, p95 {late:.0f} ms"
    bare = [
        a + b
        for a, b in zip(seconds["bare forward, batches of 16"], seconds["bare decode, one thread"], strict=True)
    ]
    rows["bare decode, then forward"] = f"{given.requests / statistics.median(bare):.1f} places/s"
    quick = seconds["served, batches"]
    ratios = {
        "served_to_bare_forward": median_ratio(seconds["bare forward, batches of 16"], quick),
        "served_to_bare_decode_and_forward": median_ratio(bare, quick),
        "batches_to_one_by_one": median_ratio(seconds["served, one by one"], quick),
    }
    report(f"Serve: {given.clients} clients, four photos each", rows, ratios)


if __name__ == "__main__":
    main()
