"""Config keys that do not affect results, and redaction of keys and values that are private."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from geoguesser.data.sources.base import FOLDER_KEYS, source_from_config
from geoguesser.system.secret_values import SECRET_NAME_PATTERN, redact

# Config group -> its keys that do not affect results: names, loggers, number of workers. "" is the top level.
KEYS_WITHOUT_EFFECT = {
    "": ("logger", "name", "pictures", "dry_run", "resume"),
    "data": ("num_workers", "memory_gib"),
    "features": ("cache", "limit_gib"),
    "trainer": ("log_every_n_steps", "enable_model_summary", "enable_progress_bar", "default_root_dir"),
}

# Keys whose values name folders or files of the user's machine.
PRIVATE_KEYS = FOLDER_KEYS | {"boundary", "weights", "init_from", "resume", "logger", "hydra"}

# Replaces a secret value.
SECRET = "(secret)"
OVERRIDE_PATTERN = re.compile(r"[+~]*[\w./@]+=")
# Secret key in an override: of the override itself, in a mapping, or in several overrides joined by commas.
SECRET_OVERRIDE_PATTERN = re.compile(
    rf"((?:^|[{{,])\s*[+~]*[\w./@]*(?:{SECRET_NAME_PATTERN.pattern})[\w./@]*\s*[=:]).*", re.IGNORECASE | re.DOTALL
)

# An absolute path, a path from a home folder, or a file URL. Inside a longer text a path follows a space, a quote,
# an opening bracket or a separator. A slash before a space
# is taken as a division, and a slash before another slash as part of a URL.
PATH_PATTERN = re.compile(r"(?:^|[\s=:,;\"'(\[])(?:~|/(?![/\s])|[A-Za-z]:[\\/](?!/))|file://")


def has_path(text: str) -> bool:
    """Returns whether a text contains an absolute path, or a path from a home folder."""
    return PATH_PATTERN.search(text) is not None


def is_private(key: str) -> bool:
    """Returns whether a dotted key names a folder, a file or a secret of the user."""
    return not PRIVATE_KEYS.isdisjoint(key.split(".")) or SECRET_NAME_PATTERN.search(key) is not None


def redact_config(config: Any) -> Any:
    """Returns a config without private keys: folders and files of the user's machine, and secrets.

    Paths under other keys become `(a path)`, and secrets of the environment `***`. The data source of the config
    may declare more private keys.
    """
    has_source = isinstance(config, Mapping) and isinstance(config.get("data"), Mapping)
    folder_keys = source_from_config(config).folder_keys if has_source else FOLDER_KEYS

    def visit(node: Any) -> Any:
        if isinstance(node, Mapping):
            public = (key for key in node if key not in folder_keys and not is_private(str(key)))
            return {key: visit(node[key]) for key in public}
        if isinstance(node, list | tuple):
            return [visit(item) for item in node]
        if isinstance(node, str):
            return "(a path)" if has_path(node) else redact(node)
        return node

    return visit(config)


def flatten_config(config: Mapping[str, Any], skip: Callable[[str], bool], prefix: str = "") -> dict[str, Any]:
    """Returns a config by dotted keys, without the dotted keys that `skip` accepts. Lists are values."""
    flat: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if not skip(name):
            flat |= flatten_config(value, skip, f"{name}.") if isinstance(value, Mapping) else {name: value}
    return flat


def remove_secrets(value: Any) -> Any:
    """Returns plain values for config.yaml, in which `(secret)` replaces the values of keys like `token`.

    The same holds for overrides such as `+logger.api_key=VALUE`, from the first such key on. Secrets of the
    environment become `***`: here, and not in the written text, in which `***` would need quotes. Paths stay,
    because a run is resumed from them.
    """
    if isinstance(value, Mapping):
        return {
            key: SECRET if SECRET_NAME_PATTERN.search(str(key)) else remove_secrets(item)
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [remove_secrets(item) for item in value]
    if not isinstance(value, str):
        return value
    return redact(SECRET_OVERRIDE_PATTERN.sub(rf"\1{SECRET}", value) if OVERRIDE_PATTERN.match(value) else value)
