"""Embedding views on the CPU with glibc's allocator as it is, and told to keep freed memory.

python benchmarks/allocator.py [threads]

Each way runs in processes of its own, in turn, for the allocator's setting holds for a whole process.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys

import torch
from measure import median_ratio, report

VIEWS, ROUNDS = 128, 5
CODE = """
import json, resource, sys, time
import torch
from geoguesser.system.allocator import keep_freed_memory
from geoguesser.model.backbone import Backbone
if sys.argv[1] == "kept":
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
    told: dict[str, list[list[float]]] = {"as it is": [], "kept": []}
    for number in range(ROUNDS):
        for name in list(told) if number % 2 == 0 else reversed(list(told)):
            words = [sys.executable, "-c", CODE, name, threads, str(VIEWS)]
            told[name].append(json.loads(subprocess.run(words, check=True, capture_output=True, text=True).stdout))
    rows = {
        name: f"{VIEWS / statistics.median(run[0] for run in runs):,.0f} views/s, "
        f"peak {statistics.median(run[1] for run in runs):,.0f} MiB, "
        f"{statistics.median(run[2] for run in runs):,.0f} page faults"
        for name, runs in told.items()
    }
    before, after = ([run[0] for run in told[name]] for name in told)
    ratios: dict[str, float | None] = {"kept_over_as_it_is": median_ratio(before, after)}
    report(f"efficientnet_lite0, {VIEWS} views of 112 px", rows, ratios)


if __name__ == "__main__":
    main()
