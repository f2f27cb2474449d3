"""Counted: how many of a thing there are, in words for people. No language but English."""

from __future__ import annotations


def format_count(count: int, word: str) -> str:
    """`1 place`, `26,417 places`.

    Args:
        count: How many.
        word: What they are, in the singular; its plural ends in s.
    """
    return f"{count:,} {word}{'' if count == 1 else 's'}"
