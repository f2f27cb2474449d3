"""Settings of the collect command from conf/, and settings of clients of the local provider server."""

from __future__ import annotations

from typing import Any

from conftest import ROOT
from omegaconf import OmegaConf

from geoguesser.collecting.budget import Budget

HTTP = {
    "concurrency": 8, "connect_timeout_s": 2, "timeout_s": 20, "max_attempts": 4, "backoff_base_s": 0.01,
    "backoff_max_s": 5, "max_consecutive_failures": 1000, "max_response_mib": 0.05,
}  # fmt: skip
NO_LIMIT = Budget(None, None, None, None)


def load_settings(name: str) -> dict[str, Any]:
    """Loads a file below conf/ as the arguments of its class."""
    settings: Any = OmegaConf.to_container(OmegaConf.load(ROOT / "conf" / f"{name}.yaml"))
    settings.pop("_target_", None)
    return settings
