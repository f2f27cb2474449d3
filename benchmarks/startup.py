"""Start-up time of `--help` and `--cfg job`, which import no torch, compared with importing the modules of a run.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys

from measure import compute_median_ratio, format_median_ms, print_report, time_interleaved


def main() -> None:
    def call(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    seconds = time_interleaved(
        {
            "--help": lambda: call("-m", "geoguesser.train", "--help"),
            "--cfg job": lambda: call("-m", "geoguesser.train", "--cfg", "job"),
            "importing a run's modules": lambda: call("-c", "import geoguesser.commands.train"),
        },
        rounds=3,
        warmup=1,
    )
    rows = {name: format_median_ms(times) for name, times in seconds.items()}
    ratio = compute_median_ratio(seconds["importing a run's modules"], seconds["--help"])
    print_report("Start-up", rows, {"import_all_over_help": ratio})


if __name__ == "__main__":
    main()
