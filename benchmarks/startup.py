"""Start-up: --help of the entry point, which imports no torch, against importing all that a run needs.

python benchmarks/startup.py
"""

from __future__ import annotations

import subprocess
import sys

from measure import interleaved, median_ratio, milliseconds, report


def main() -> None:
    def call(*words: str) -> None:
        subprocess.run([sys.executable, *words], check=True, capture_output=True)

    seconds = interleaved(
        {
            "--help": lambda: call("-m", "geoguesser.train", "--help"),
            "--cfg job": lambda: call("-m", "geoguesser.train", "--cfg", "job"),
            "importing a run's modules": lambda: call("-c", "import geoguesser.commands.train"),
        },
        rounds=3,
        warmup=1,
    )
    rows = {name: milliseconds(times) for name, times in seconds.items()}
    ratio = median_ratio(seconds["importing a run's modules"], seconds["--help"])
    report("Start-up", rows, {"import_all_over_help": ratio})


if __name__ == "__main__":
    main()
