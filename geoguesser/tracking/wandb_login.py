"""Settings and login of W&B's client, without heavy imports."""

from __future__ import annotations

import os
from typing import Any

from geoguesser.errors import ConfigError, first_line


def prepare_wandb() -> None:
    """Sets the environment that wandb reads when it is imported; values of the user are kept.

    No telemetry, no output, and limits in seconds for the prompt of the key (in terminals only) and for requests
    of wandb's Python part.
    """
    os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    os.environ.setdefault("WANDB_SILENT", "true")
    os.environ.setdefault("WANDB_LOGIN_TIMEOUT", "60")
    os.environ.setdefault("WANDB_HTTP_TIMEOUT", "10")


def log_in(patience_s: float, *, remedy: str = "") -> Any:
    """Returns W&B's public API for a user whose key the server accepts.

    Args:
        patience_s: Timeout of the server's response in seconds.
        remedy: Sentence with an alternative to `wandb login`, for the error message.

    Raises:
        ConfigError: There is no key, or the server refuses it.
        ConnectionError: The server does not respond.
    """
    prepare_wandb()
    import wandb
    from wandb.errors import AuthenticationError, UsageError

    try:
        return wandb.Api(timeout=max(1, round(patience_s)))
    except (AuthenticationError, UsageError, TimeoutError) as error:
        text = first_line(error).rstrip(".")

        # W&B raises the same errors for a refused key and for a server that does not respond.
        if "respond in time" in text or "connect" in text.lower():
            raise ConnectionError(text) from error
        raise ConfigError(
            f"W&B refuses to log you in ({text}). Log in with `wandb login`. {remedy}".rstrip()
        ) from error
