"""What of a config may leave the machine: no folder or file of the user's, no secret."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from geoguesser.data.sources.base import FOLDER_KEYS, source_from_config

PRIVATE_KEYS = FOLDER_KEYS | {"boundary", "weights", "init_from", "resume", "logger", "hydra"}
SECRET = re.compile(r"key|token|secret|password|credential", re.IGNORECASE)
# An absolute path or one from a home folder, at a text's start or after what stands before one in a longer text.
PATH = re.compile(r"(?:^|[\s=:,;\"'(\[])(?:~|/(?![/\s])|[A-Za-z]:[\\/](?!/))|file://")


def has_path(text: str) -> bool:
    """Whether a text names a place in a file system, from its root or from somebody's home."""
    return PATH.search(text) is not None


def is_private(key: str) -> bool:
    """Whether what stands under this (dotted) key is for nobody else."""
    parts = key.split(".")
    return bool(PRIVATE_KEYS & set(parts)) or SECRET.search(key) is not None


def redact_config(config: Any) -> Any:
    """Returns a config without its private keys: folders and files of the user's machine, and secrets."""
    named = config.get("data") if isinstance(config, Mapping) else None
    folders = source_from_config(config).folder_keys if isinstance(named, Mapping) else FOLDER_KEYS
    return _public(config, folders)


def _public(config: Any, folders: frozenset[str]) -> Any:
    if isinstance(config, Mapping):
        return {
            key: _public(value, folders)
            for key, value in config.items()
            if key not in folders and not is_private(str(key))
        }
    if isinstance(config, list | tuple):
        return [_public(value, folders) for value in config]
    if isinstance(config, str) and has_path(config):
        return "(a path)"
    return config


def remove_secrets(config: dict[str, Any]) -> dict[str, Any]:
    """The resolved config for config.yaml: values under keys that look secret are not written."""

    def clean(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: "(secret)" if SECRET.search(str(key)) else clean(one) for key, one in value.items()}
        return value

    cleaned: dict[str, Any] = clean(config)
    return cleaned
