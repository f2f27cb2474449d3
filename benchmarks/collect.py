"""Collecting from a local server: throughput relative to the rate limit, and memory at 1,000 and 20,000 places.

python benchmarks/collect.py [places ...]

Each collection runs in a process of its own, whose peak memory is measured (ru_maxrss). The server is the one of
the tests and runs in this process.
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

RATE_PER_S = 100.0
UNLIMITED_RATE_PER_S = 100_000.0
CODE = """
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
    rows: dict[str, str] = {}
    ratios: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as home:
        share, max_in_1_s, max_in_5_s = measure_throughput(Path(home) / "rate", 300)
        rows[f"throughput at a limit of {RATE_PER_S:g} a second"] = (
            f"{share:.0%} of the limit; at the server at most {max_in_1_s} in 1 s, {max_in_5_s} in 5 s"
        )
        ratios["throughput_over_limit"] = share

        peaks = []
        for count in places:
            peak_mib, seconds, requests = measure_collection(Path(home) / str(count), count)
            peaks.append(peak_mib)
            rows[f"{count:,} points"] = f"peak {peak_mib:,.0f} MiB, {requests:,} requests in {seconds:,.0f} s"
        ratios[f"peak_{places[-1]}_over_{places[0]}"] = peaks[-1] / peaks[0]

        print(f"Collecting ({os.cpu_count()} CPUs, Python {sys.version.split()[0]}; synthetic views of 64 px)")
        width = max(map(len, rows))
        for name, value in rows.items():
            print(f"  {name:<{width}}  {value}")
        print(json.dumps({name: round(value, 4) for name, value in ratios.items()}), flush=True)


def measure_throughput(out: Path, count: int) -> tuple[float, int, int]:
    """Returns the rate of image requests as a share of the limit, and the server's maximum in 1 s and in 5 s."""
    with ProviderServer(delay_s=0.05) as server:
        write_plan(out, count)
        for step in ("metadata", "download"):
            run_step(server, out, step, RATE_PER_S)

        times = np.sort([entry.at_s for entry in server.log if entry.kind == "image"])
        max_in_1_s, max_in_5_s = (server.max_requests_within(seconds, "image") for seconds in (1.0, 5.0))
    share = (len(times) - 1) / float(times[-1] - times[0]) / RATE_PER_S
    return share, max_in_1_s, max_in_5_s


def measure_collection(out: Path, count: int) -> tuple[float, float, int]:
    """Returns the peak memory in MiB of the step that needs more, the seconds, and the number of requests."""
    with ProviderServer() as server:
        write_plan(out, count)
        start = time.perf_counter()
        peaks = [run_step(server, out, step, UNLIMITED_RATE_PER_S) for step in ("metadata", "download")]
        return max(peaks), time.perf_counter() - start, len(server.log)


def write_plan(out: Path, count: int) -> None:
    random = np.random.default_rng(0)
    with Database(out) as database:
        record_plan(database, random.uniform((42.0, 13.0), (47.0, 20.0), (count, 2)), {"places": count})


def run_step(server: ProviderServer, out: Path, step: str, rate_per_s: float) -> float:
    """Returns the peak memory in MiB."""
    words = [
        f"step={step}", f"out={out}", "provider.accept_terms=true", f"provider.base_url={server.google}",
        "budget.money=100000", "budget.requests_per_day=null",
        *(f"provider.requests.{kind}.per_second={rate_per_s}" for kind in ("metadata", "image")),
    ]  # fmt: skip
    completed = subprocess.run(
        [sys.executable, "-c", CODE, *words], cwd=ROOT, capture_output=True, text=True, check=True,
        env=os.environ | {"GOOGLE_MAPS_API_KEY": KEY, "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    kib = int(completed.stdout.rsplit("peak", 1)[1])

    # macOS counts bytes, Linux KiB.
    return kib / 1024 if sys.platform != "darwin" else kib / 2**20


if __name__ == "__main__":
    # Fails before long work on a system without it.
    resource.getrusage(resource.RUSAGE_SELF)
    main()
