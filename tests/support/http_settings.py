"""HTTP settings and a budget for clients of the local provider server."""

from __future__ import annotations

from geoguesser.collecting.budget import Budget

HTTP = {
    "concurrency": 8, "connect_timeout_s": 2, "timeout_s": 20, "tries": 4, "first_wait_s": 0.01,
    "longest_wait_s": 5, "give_up_after": 1000, "most_mib": 0.05,
}  # fmt: skip
NO_LIMIT = Budget(None, None, None, None)
