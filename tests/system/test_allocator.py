"""The allocator's setting, by what the kernel counts: pages it had to find anew."""

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
told = keep_freed_memory() if sys.argv[1] == "kept" else None
def blocks():
    kept = [bytearray(b"x") * 2**20 for _ in range(8)]
    large = bytearray(b"x") * (48 * 2**20)
    return len(kept) + len(large)
blocks()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    blocks()
print(json.dumps([told, resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before]))
"""


def told(how: str, **env: str) -> tuple[bool | None, int]:
    done = subprocess.run(
        [sys.executable, "-c", CODE, how], capture_output=True, text=True, check=True, env={**os.environ, **env}
    )
    answer, faults = json.loads(done.stdout)
    return answer, faults


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library than glibc is left alone")
def test_freed_memory_is_used_again_without_asking_the_kernel() -> None:
    """48 MiB have 12,288 pages: as it is, they are found anew in each of the twenty rounds."""
    _, plain = told("as it is")
    answer, kept = told("kept")
    assert answer is True
    assert plain > 20 * 12_000
    assert kept < plain / 10


def test_whoever_set_the_allocator_is_left_alone() -> None:
    answer, _ = told("kept", MALLOC_TRIM_THRESHOLD_="1000000")
    assert answer is False
