"""Formats a count with its noun: `1 place`, `26,417 places`."""

from __future__ import annotations


def format_count(count: int, word: str) -> str:
    """Returns a count and its noun in English: `1 place`, `26,417 places`.

    Args:
        count: Number of things.
        word: Their noun in the singular; its plural ends in s.
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"
