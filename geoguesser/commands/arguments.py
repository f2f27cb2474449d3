"""Changes and checks command-line arguments before Hydra parses them, because Hydra's errors name no remedy."""

from __future__ import annotations

import itertools
import re
import sys
from pathlib import Path

from geoguesser.commands.configs import conf_dir, format_override
from geoguesser.errors import ConfigError, MissingFileError
from geoguesser.runs.config_history import RENAMED_KEYS, update_override

# Choices of config groups that an earlier version had -> what to use instead.
REMOVED_CHOICES = {
    ("decoder", "auto"): "decoder=auto was removed in version 0.2. Choose decoder=median, mean, top_k or argmax.",
    ("loss", "mix"): "loss=mix was removed in version 0.2. Choose loss=smoothed, the default.",
}

# Command -> key of an earlier version -> current key. Those of `train` are in runs/config_history.py, because run
# folders record them.
RENAMED_OPTIONS: dict[str, dict[str, str]] = {
    "train": RENAMED_KEYS,
    "collect": {
        "http.tries": "http.max_attempts",
        "http.first_wait_s": "http.backoff_base_s",
        "http.longest_wait_s": "http.backoff_max_s",
        "http.give_up_after": "http.max_consecutive_failures",
        "http.most_mib": "http.max_response_mib",
    },
    "dashboard": {"of": "sweep_dir", "sweep": "sweep_dir"},
    "export": {"check_on": "verify_on"},
    "report": {"most": "max_places"},
}

# Command -> key and value of an earlier version -> current key and value.
RENAMED_VALUES: dict[str, dict[str, str]] = {
    "predict": {"on_bad=blank": "on_bad=empty", "on_bad=blind": "on_bad=prior"},
}

# Options of Hydra that take the next argument as their value.
OPTIONS_WITH_VALUE = {
    *("--cfg", "-c", "--package", "-p", "--info", "-i", "--experimental-rerun"),
    *("--config-path", "-cp", "--config-name", "-cn", "--config-dir", "-cd"),
}


def update_arguments(command: str, arguments: list[str]) -> list[str]:
    """Replaces keys and values that were renamed, with one line on stderr for each."""
    updated = []
    for argument in arguments:
        new = RENAMED_VALUES.get(command, {}).get(argument, argument)
        if not new.startswith("-"):
            new = update_override(new, RENAMED_OPTIONS.get(command, {}))
        if new != argument:
            old_name, new_name = (text.partition("=")[0] for text in (argument, new))
            if old_name == new_name:
                old_name, new_name = argument, new
            print(  # noqa: T201
                f"note: {old_name} is now {new_name}; the old name works until version 1.0", file=sys.stderr
            )
        updated.append(new)
    return updated


def check_group_choices(arguments: list[str]) -> None:
    """Refuses numbers (`image=56` for `image=px56`) and choices that were removed, also as values of a sweep.

    Raises:
        ConfigError: With the available choices.
    """
    for argument in arguments:
        group, _, choice = argument.partition("=")

        for name in re.findall(r"\w+", choice):
            if (message := REMOVED_CHOICES.get((group.lstrip("+"), name))) is not None:
                raise ConfigError(message)

        numbers = [value for value in choice.split(",") if value.strip().isdecimal()]
        if numbers and group.isidentifier() and (choices := list_choices(group)):
            raise ConfigError.at(group, f"must be one of {', '.join(choices)}", found=int(numbers[0]))


def list_choices(group: str) -> list[str]:
    """Returns the choices of a config group in alphabetical order, without internal ones (leading underscore)."""
    folder = Path(conf_dir()) / group
    return sorted(path.stem for path in folder.glob("*.yaml") if not path.stem.startswith("_"))


def expand_resume(arguments: list[str]) -> list[str]:
    """Expands `resume=RUN_FOLDER`: the recorded overrides of that run come first, and its folder is used again.

    Raises:
        MissingFileError: The folder contains no run.
        ConfigError, DataError: The recorded overrides are not data, see `read_overrides`.
    """
    given = [argument.partition("=")[2].strip("'\"") for argument in arguments if argument.startswith("resume=")]
    if not given or given[-1] in ("", "null"):
        return arguments

    folder = Path(given[-1]).expanduser()
    recorded = folder / "overrides.yaml"
    if not recorded.is_file() or not (folder / "checkpoints" / "last.ckpt").is_file():
        raise MissingFileError.at(
            f"resume={folder}",
            "must be a run folder with overrides.yaml and checkpoints/last.ckpt",
            remedy="Runs are in outputs/DATE/TIME.",
        )

    # Hydra's parser is imported for a resume only.
    from geoguesser.commands.recorded_overrides import read_overrides

    old = read_overrides(recorded, arguments)
    new = [
        format_override("resume", folder) if argument.startswith("resume=") else argument for argument in arguments
    ]
    # Hydra's parser accepts overrides only in one piece, so options come before all of them.
    pairs = list(itertools.pairwise(["", *new]))
    options = [item for before, item in pairs if item.startswith("-") or before in OPTIONS_WITH_VALUE]
    overrides = [
        argument for before, argument in pairs if not (argument.startswith("-") or before in OPTIONS_WITH_VALUE)
    ]
    return [*options, *old, *overrides, format_override("hydra.run.dir", folder)]


def expand_runs(arguments: list[str]) -> list[str]:
    """Replaces arguments that name runs by one `runs=[...]`; keys and options stay as they are.

    An argument names a run if it is a folder, or if it is neither an option nor contains `=`.
    """
    runs: list[str] = []
    others: list[str] = []
    for before, argument in itertools.pairwise(["", *arguments]):
        is_other = argument.startswith("-") or "=" in argument or before in OPTIONS_WITH_VALUE
        (others if is_other and not Path(argument).expanduser().is_dir() else runs).append(argument)
    if not runs:
        return others

    quoted = ("'" + argument.replace("\\", "\\\\").replace("'", "\\'") + "'" for argument in runs)
    return [*others, f"runs=[{','.join(quoted)}]"]


def refuse_credentials(arguments: list[str]) -> list[str]:
    """Returns the arguments. Raises `ConfigError` for an API key, because Hydra prints a refused argument."""
    from geoguesser.collecting.providers.credentials import check_no_secrets

    check_no_secrets({"the command line": arguments})
    return arguments
