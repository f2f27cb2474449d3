"""Setting of the allocator, measured by the page faults of the kernel."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys

import pytest

CODE = """
import json, resource, sys
from geoguesser.system.allocator import keep_freed_memory
answer = keep_freed_memory() if sys.argv[1] == "kept" else None
def blocks():
    kept = [bytearray(b"x") * 2**20 for _ in range(8)]
    large = bytearray(b"x") * (48 * 2**20)
    return len(kept) + len(large)
blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks()
print(json.dumps([answer, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


def count_faults(mode: str, **env: str) -> tuple[bool | None, int]:
    process = subprocess.run(
        [sys.executable, "-c", CODE, mode], capture_output=True, text=True, check=True, env={**os.environ, **env}
    )
    answer, faults = json.loads(process.stdout)
    return answer, faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc is left alone")
def test_freed_memory_is_used_again_without_asking_the_kernel() -> None:
    """48 MiB have 12,288 pages. Without the setting, each of the 20 rounds faults on all of them."""
    _, plain = count_faults("default")
    answer, kept = count_faults("kept")
    assert answer is True
    assert plain > 20 * 12_000
    assert kept < plain / 10


def test_settings_of_the_environment_take_precedence() -> None:
    answer, _ = count_faults("kept", MALLOC_TRIM_THRESHOLD_="1000000")
    assert answer is False
