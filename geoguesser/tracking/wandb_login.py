"""Settings and login of W&B's client, without heavy imports."""

from __future__ import annotations

import os
from typing import Any

from geoguesser.errors import ConfigError, first_line


def prepare_wandb() -> None:
    """Sets the environment that wandb reads when it is imported; values of the user are kept."""
    # No telemetry, no output, and limits in seconds for the prompt of the key and for requests.
    limits = {"WANDB_LOGIN_TIMEOUT": "60", "WANDB_HTTP_TIMEOUT": "10"}
    for name, value in {"WANDB_ERROR_REPORTING": "false", "WANDB_SILENT": "true", **limits}.items():
        os.environ.setdefault(name, value)


def log_in(patience_s: float, *, remedy: str = "") -> Any:
    """Returns W&B's public API for a user whose key the server accepts within `patience_s`.

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
