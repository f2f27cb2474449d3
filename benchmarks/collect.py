"""Collecting from a local server: throughput against the limit, and memory at 1,000 and at 20,000 places.

Each collection runs in a process of its own, whose peak memory the system tells (ru_maxrss). The server is that of
the tests, in this process.

python benchmarks/collect.py [places ...]
"""

from __future__ import annotations

import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

from support.provider_server import KEY, ProviderServer  # noqa: E402

from geoguesser.collecting.database import Database  # noqa: E402
from geoguesser.collecting.pipeline.plan_table import record_plan  # noqa: E402

RATE = 100.0  # requests a second for the throughput
ANY_RATE = 100_000.0
LOOK = """
import resource, sys
from geoguesser.collect import main
sys.argv[0] = "geoguesser.collect"
try:
    main()
finally:
    print("peak", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


def main() -> None:
    places = [int(word) for word in sys.argv[1:]] or [1000, 20_000]
    rows, ratios = {}, {}
    with tempfile.TemporaryDirectory() as home:
        used, (one, five) = throughput(Path(home) / "rate", 300)
        rows[f"throughput at a limit of {RATE:g} a second"] = (
            f"{used:.0%} of the limit; at the server at most {one} in 1 s, {five} in 5 s"
        )
        ratios["throughput_over_limit"] = used
        peaks = []
        for count in places:
            peak, seconds, sent = collect(Path(home) / str(count), count, ANY_RATE)
            peaks.append(peak)
            rows[f"{count:,} points"] = f"peak {peak:,.0f} MiB, {sent:,} requests in {seconds:,.0f} s"
        ratios[f"peak_{places[-1]}_over_{places[0]}"] = peaks[-1] / peaks[0]
        print(f"Collecting ({os.cpu_count()} CPUs, Python {sys.version.split()[0]}; synthetic views of 64 px)")
        width = max(map(len, rows))
        for name, value in rows.items():
            print(f"  {name:<{width}}  {value}")
        print(json.dumps({name: round(value, 4) for name, value in ratios.items()}), flush=True)


def throughput(out: Path, count: int) -> tuple[float, tuple[int, int]]:
    """The share of the limit that image requests come to, and the most that the server saw in 1 s and in 5 s."""
    with ProviderServer(delay_s=0.05) as server:
        plan(out, count)
        for step in ("metadata", "download"):
            run(server, out, step, RATE)
        times = np.sort([entry.at_s for entry in server.log if entry.kind == "image"])
        most = server.max_requests_within(1.0, "image"), server.max_requests_within(5.0, "image")
    return (len(times) - 1) / float(times[-1] - times[0]) / RATE, most


def collect(out: Path, count: int, rate: float) -> tuple[float, float, int]:
    """Peak memory in MiB of the hungrier step, seconds, requests."""
    with ProviderServer() as server:
        plan(out, count)
        start = time.perf_counter()
        peaks = [run(server, out, step, rate) for step in ("metadata", "download")]
        return max(peaks), time.perf_counter() - start, len(server.log)


def plan(out: Path, count: int) -> None:
    draw = np.random.default_rng(0)
    with Database(out) as database:
        record_plan(database, draw.uniform((42.0, 13.0), (47.0, 20.0), (count, 2)), {"places": count})


def run(server: ProviderServer, out: Path, step: str, rate: float) -> float:
    """Peak memory in MiB."""
    words = [
        f"step={step}", f"out={out}", "provider.accept_terms=true", f"provider.base_url={server.google}",
        "budget.money=100000", "budget.requests_per_day=null",
        *(f"provider.requests.{kind}.per_second={rate}" for kind in ("metadata", "image")),
    ]  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-c", LOOK, *words], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"GOOGLE_MAPS_API_KEY": KEY, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    kib = int(done.stdout.rsplit("peak", 1)[1])
    return kib / 1024 if sys.platform != "darwin" else kib / 2**20


if __name__ == "__main__":
    resource.getrusage(resource.RUSAGE_SELF)  # fails at once where the system has none
    main()
