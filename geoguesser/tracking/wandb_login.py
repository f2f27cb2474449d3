"""W&B's client: what is set before it is imported, and who is logged in. Imports nothing heavy."""

from __future__ import annotations

import os
from typing import Any

from geoguesser.errors import ConfigError, first_line


def prepare_wandb() -> None:
    """Sets what must be set before wandb is imported: no telemetry, no lines of its own, no endless question."""
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_LOGIN_TIMEOUT", "60")  # seconds; it asks for a key only where there is a terminal
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", "10")  # of the questions that wandb's Python part asks the server


def log_in(patience_s: float, *, remedy: str = "") -> Any:
    """W&B's public API, of a user whose key the server accepts.

    Args:
        patience_s: How long to wait for the server's answer.
        remedy: What the user can do besides `wandb login`, for the message.

    Raises:
        ConfigError: There is no key, or the server refuses it.
        ConnectionError: The server does not answer.
    """
    prepare_wandb()
    import wandb
    from wandb.errors import AuthenticationError, UsageError

    try:
        return wandb.Api(timeout=max(1, round(patience_s)))
    except (AuthenticationError, UsageError, TimeoutError) as error:
        text = first_line(error).rstrip(".")
        if "respond in time" in text or "connect" in text.lower():  # W&B has one error for both
            raise ConnectionError(text) from error
        raise ConfigError(f"W&B refuses to log you in ({text}). Log in with `wandb login`{remedy}.") from error
