"""Load test of the server: places per second over HTTP compared with bare decoding and forward pass.

    python benchmarks/serve.py RUN_FOLDER [--clients 16] [--requests 96] [--rounds 5] [--threads 2]

Two servers, with batches and without (limits.batch=1), are called in turn by concurrent clients. In between, this
process decodes the same photos and runs the same network, in batches of 16 and one by one. A request is one place:
four photos of 640 pixels, about 300 KB. Clients and server share the machine, as on a laptop.
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
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import aiohttp
import numpy as np
import torch
from measure import compute_median_ratio, print_report, time_interleaved
from photos import HEADINGS, make_root

from geoguesser.data.images import ImageSpec
from geoguesser.inference.ensemble import Ensemble
from geoguesser.system.allocator import keep_freed_memory

PLACES, BATCH = 48, 16
BOUNDARY = "----a-place-with-four-photos"
FIELDS = ("north", "east", "south", "west")
HEADERS = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}"}


@contextmanager
def run_server(run: Path, *words: str) -> Iterator[str]:
    """Runs a server in a process of its own and yields its address."""
    command = [sys.executable, "-m", "geoguesser.serve", f"run={run}", "port=0", *words]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        for line in process.stdout:
            if match := re.search(r"http://\S+/", line):
                yield match[0]
                return
        raise SystemExit("the server did not start")
    finally:
        process.terminate()
        process.wait()


def make_body(photos: list[bytes]) -> bytes:
    """Makes the body of a request for a place."""
    body = b""
    for name, data in zip(FIELDS, photos, strict=True):
        head = f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"; filename="a.jpg"\r\n'
        body += head.encode() + b"Content-Type: image/jpeg\r\n\r\n" + data + b"\r\n"
    return body + f"--{BOUNDARY}--\r\n".encode()


def read_views(photos: list[bytes], specs: Sequence[ImageSpec]) -> tuple[list[torch.Tensor], torch.Tensor]:
    """Decodes the four photos of a place to (1, 4, 3, S, S) for each spec, and makes the mask of views present."""
    views = [torch.from_numpy(np.stack([spec.decode(data) for data in photos]))[None] for spec in specs]
    return views, torch.ones(1, len(photos), dtype=torch.bool)


async def send_all(address: str, bodies: list[bytes], clients: int) -> list[float]:
    """Sends all requests from concurrent clients and returns the seconds of each."""
    remaining = iter(bodies)
    seconds: list[float] = []

    async def client(session: aiohttp.ClientSession) -> None:
        for body in remaining:
            start = time.perf_counter()
            async with session.post(f"{address}api/v1/predict", data=body, headers=HEADERS) as response:
                assert response.status == 200, await response.text()
                await response.read()
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
        "--threads", type=int, default=os.cpu_count() or 1, help="threads of torch, in servers and here"
    )
    options = parser.parse_args()

    keep_freed_memory()
    torch.set_num_threads(options.threads)
    ensemble = Ensemble.load([options.run])
    with tempfile.TemporaryDirectory() as folder:
        root = make_root(Path(folder) / "root", PLACES) / "images"
        places = [
            [(place / f"{heading}.jpg").read_bytes() for heading in HEADINGS] for place in sorted(root.iterdir())
        ]
    places = [places[number % PLACES] for number in range(options.requests)]
    bodies = [make_body(photos) for photos in places]
    views = [read_views(photos, ensemble.specs) for photos in places]
    latencies: dict[str, list[float]] = {"batches": [], "one by one": []}

    def forward(step: int) -> None:
        for start in range(0, len(views), step):
            batch = views[start : start + step]
            images = [torch.cat(parts) for parts in zip(*(images for images, _ in batch), strict=True)]
            ensemble.predict(images, torch.cat([mask for _, mask in batch]))

    def decode() -> None:
        for photos in places:
            read_views(photos, ensemble.specs)

    threads = f"threads={options.threads}"
    with (
        run_server(options.run, threads) as batching,
        run_server(options.run, threads, "limits.batch=1", "limits.wait_ms=0") as single,
    ):
        addresses = {"batches": batching, "one by one": single}

        def load(name: str) -> None:
            latencies[name] += asyncio.run(send_all(addresses[name], bodies, options.clients))

        seconds = time_interleaved(
            {
                "served, batches": lambda: load("batches"),
                "served, one by one": lambda: load("one by one"),
                "bare forward, batches of 16": lambda: forward(BATCH),
                "bare forward, one by one": lambda: forward(1),
                "bare decode, one thread": decode,
            },
            rounds=options.rounds,
            warmup=1,
        )

    rows = {name: f"{options.requests / statistics.median(times):.1f} places/s" for name, times in seconds.items()}
    for name, times in latencies.items():
        # The first requests are the warm-up.
        median_ms, p95_ms = np.percentile(times[options.requests :], [50, 95]) * 1000
        rows[f"latency, {name}"] = f"p50 {median_ms:.0f} ms, p95 {p95_ms:.0f} ms"

    bare = [
        a + b
        for a, b in zip(seconds["bare forward, batches of 16"], seconds["bare decode, one thread"], strict=True)
    ]
    rows["bare decode, then forward"] = f"{options.requests / statistics.median(bare):.1f} places/s"

    served = seconds["served, batches"]
    ratios = {
        "served_to_bare_forward": compute_median_ratio(seconds["bare forward, batches of 16"], served),
        "served_to_bare_decode_and_forward": compute_median_ratio(bare, served),
        "batches_to_one_by_one": compute_median_ratio(seconds["served, one by one"], served),
    }
    print_report(f"Serve: {options.clients} clients, four photos each", rows, ratios)


if __name__ == "__main__":
    main()
