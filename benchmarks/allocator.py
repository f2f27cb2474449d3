"""Embedding of views on the CPU with glibc's default allocator settings, and with freed memory kept.

python benchmarks/allocator.py [threads]

Each way runs in processes of its own, in turn, because the setting applies to a complete process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import torch
from measure import compute_median_ratio, print_report

VIEWS, ROUNDS = 128, 5
CODE = """
import json, resource, sys, time
import torch
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.model.backbone import Backbone
if sys.argv[1] == "freed memory kept":
    assert keep_freed_memory()
torch.set_num_threads(int(sys.argv[2]))
backbone = Backbone(name="tf_efficientnet_lite0.in1k", source="pip").eval().to(memory_format=torch.channels_last)
views = torch.randint(0, 256, (int(sys.argv[3]), 3, 112, 112), dtype=torch.uint8)
seconds = []
with torch.no_grad():
    for _ in range(8):
        start = time.perf_counter()
        backbone(views)
        seconds.append(time.perf_counter() - start)
usage = resource.getrusage(resource.RUSAGE_SELF)
print(json.dumps([sorted(seconds)[4], usage.ru_maxrss / 1024, usage.ru_minflt]))
"""


def main() -> None:
    threads = sys.argv[1] if len(sys.argv) > 1 else str(torch.get_num_threads())
    torch.set_num_threads(int(threads))

    # Seconds, peak memory in MiB and page faults of each process.
    runs: dict[str, list[list[float]]] = {"default": [], "freed memory kept": []}
    for number in range(ROUNDS):
        for name in list(runs) if number % 2 == 0 else reversed(list(runs)):
            command = [sys.executable, "-c", CODE, name, threads, str(VIEWS)]
            output = subprocess.run(command, check=True, capture_output=True, text=True).stdout
            runs[name].append(json.loads(output))

    rows = {}
    for name, figures in runs.items():
        seconds, peak_mib, faults = (statistics.median(column) for column in zip(*figures, strict=True))
        rows[name] = f"{VIEWS / seconds:,.0f} views/s, peak {peak_mib:,.0f} MiB, {faults:,.0f} page faults"

    default, kept = ([figures[0] for figures in runs[name]] for name in runs)
    ratios = {"kept_over_default": compute_median_ratio(default, kept)}
    print_report(f"efficientnet_lite0, {VIEWS} views of 112 px", rows, ratios)


if __name__ == "__main__":
    main()
