"""Setting of glibc's allocator that makes it keep freed memory: networks on the CPU run twice as fast.

glibc returns each block above 128 KB to the kernel when it is freed, and the kernel zeroes new pages for the next
one. The activations of a network are such blocks, many in each forward pass. Measured on two cores:
efficientnet_lite0 at 112 px embeds 2.2 times as many views a second without that (benchmarks/allocator.py).
"""

from __future__ import annotations

import ctypes
import os

M_TRIM_THRESHOLD, M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
KEEP_BYTES = 2**30
MIN_KEEP_BYTES = 2**25
GLIBC_VARIABLES = ("MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "GLIBC_TUNABLES")


def keep_freed_memory() -> bool:
    """Lets this process keep up to 1 GiB of freed memory for its next allocations.

    Peak memory hardly grows, because the same blocks are used again. Nothing is set, and False returned, if the
    environment holds glibc's own variables or the C library is not glibc.
    """
    if any(name in os.environ for name in GLIBC_VARIABLES):
        return False

    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):
        # macOS, musl and Windows have no mallopt.
        return False

    # Older releases of glibc refuse the larger threshold.
    mmap = mallopt(M_MMAP_THRESHOLD, KEEP_BYTES) or mallopt(M_MMAP_THRESHOLD, MIN_KEEP_BYTES)
    return bool(mmap) and bool(mallopt(M_TRIM_THRESHOLD, KEEP_BYTES))
