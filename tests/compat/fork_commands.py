"""Runs commands of the package one after another, each in a process that is forked after all imports.

    python fork_commands.py COMMANDS

COMMANDS is a JSON file: `commands` maps a name to a program and its words, `history` changes the dictionaries of
`geoguesser.runs.config_history`, as a later version would. NAME.log holds the output of a command; exits.json
holds the exit status of each.
"""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import sys
from pathlib import Path

import geoguesser
from geoguesser.runs import config_history


def main() -> None:
    order = json.loads(Path(sys.argv[1]).read_text())
    for name, changes in order["history"].items():
        getattr(config_history, name).update(changes)

    # Imports take seconds per command, so all commands share them.
    for module in pkgutil.walk_packages(geoguesser.__path__, "geoguesser."):
        importlib.import_module(module.name)

    exits = {}
    for name, (program, *words) in order["commands"].items():
        child = os.fork()
        if child == 0:
            log = os.open(f"{name}.log", os.O_CREAT | os.O_WRONLY)
            os.dup2(log, 1)
            os.dup2(log, 2)
            sys.argv = [f"geoguesser.{program}", *words]
            importlib.import_module(f"geoguesser.{program}").main()
            sys.exit()
        exits[name] = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    Path("exits.json").write_text(json.dumps(exits))


if __name__ == "__main__":
    main()
