"""Text of `--help`, made from the comments of a command's YAML file, so that each key is described once."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from pathlib import Path

from geoguesser.commands.arguments import list_choices
from geoguesser.commands.configs import conf_dir

WIDTH = 110
INDENT = 16
FOOTER = "Show the composed config: --cfg job. Options of Hydra: --hydra-help. Pages: docs/."
LINE = re.compile(
    r"^(?P<indent> *)(?P<dash>- )?(?P<key>[\w/]+):(?: +(?P<value>[^#\s][^#]*?))?(?: +# ?(?P<note>.*))?$"
)


@dataclass
class HelpEntry:
    """Dotted key or group with its default as YAML (empty for a mapping) and its description."""

    name: str
    default: str
    text: str


@dataclass
class CommandHelp:
    """Introduction, config groups and keys of a command, from its YAML file."""

    introduction: list[str] = field(default_factory=list)
    groups: list[HelpEntry] = field(default_factory=list)
    keys: list[HelpEntry] = field(default_factory=list)


def format_help(command: str) -> str:
    """Returns the text that `--help` prints for a command."""
    parsed = parse_help((Path(conf_dir()) / f"{command}.yaml").read_text(encoding="utf-8"))
    lines = [*parsed.introduction, ""]

    if parsed.groups:
        lines += ["Groups, given as GROUP=CHOICE (the default comes first, if there is one):", ""]
        for group in parsed.groups:
            others = [choice for choice in list_choices(group.name) if choice != group.default]
            choices = ", ".join([group.default, *others] if group.default != "null" else [*others])
            lines += _format_entry(group.name, [group.text, choices])
        lines.append("")

    lines += ["Keys, given as KEY=VALUE (the default stands after the key):", ""]
    for key in parsed.keys:
        if key.default == "???":
            lines += _format_entry(f"{key.name}=...", [f"Required. {key.text}"])
        elif key.default or key.text:
            lines += _format_entry(f"{key.name}={key.default}" if key.default else f"{key.name}.*", [key.text])
    return "\n".join([*lines, "", FOOTER])


def parse_help(text: str) -> CommandHelp:
    """Reads introduction, groups and keys with their comments from the text of a YAML file.

    A comment belongs to the key that it stands above or beside, or beside a group. Keys of `hydra` are left out.
    """
    parsed = CommandHelp()
    lines = text.splitlines()
    start = next(number for number, line in enumerate(lines) if not line.startswith("#"))
    parsed.introduction = [line[2:] for line in lines[:start]]

    path: list[tuple[int, str]] = []
    above: list[str] = []
    for line in lines[start:]:
        if line.strip().startswith("#"):
            above.append(line.strip().lstrip("# "))
            continue

        match = LINE.match(line)
        if match is None:
            above = []
            continue

        indent = len(match["indent"])
        path = [entry for entry in path if entry[0] < indent]
        parents = [name for _, name in path]
        note = " ".join([*above, match["note"] or ""]).strip()
        above = []

        if match["dash"]:
            if "/" not in match["key"] and parents == ["defaults"]:
                # A comment above an entry explains the order of the entries, not the group.
                parsed.groups.append(HelpEntry(match["key"], match["value"] or "", match["note"] or ""))
            continue
        path.append((indent, match["key"]))
        if "hydra" in (*parents, match["key"]) or match["key"] in ("defaults", "_target_"):
            continue
        parsed.keys.append(HelpEntry(".".join([*parents, match["key"]]), match["value"] or "", note))
    return parsed


def _format_entry(name: str, paragraphs: list[str]) -> list[str]:
    """Returns the name in a column of its own with the paragraphs beside it, or below a long name."""
    wrapped = [line for text in paragraphs if text for line in textwrap.wrap(text, WIDTH - INDENT)]
    lines = [" " * INDENT + line for line in wrapped]
    head = f"  {name}"
    if lines and len(head) < INDENT:
        lines[0] = head.ljust(INDENT) + wrapped[0]
        return lines
    return [head, *lines]
