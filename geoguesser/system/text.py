"""Counts, numbers and lists as text, for pages, pictures and the terminal."""

from __future__ import annotations

from collections.abc import Callable, Sequence


def format_count(count: int, word: str) -> str:
    """Returns a count and its noun, whose plural ends in s: `1 place`, `26,417 places`."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"


def replace_unprintable(text: str) -> str:
    """Replaces characters that cannot be shown or written: control characters and lone surrogates."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def escape_unprintable(text: str) -> str:
    r"""Returns text for a terminal, in which characters that would control it are escaped: `\x1b`.

    Line breaks and tabs stay.
    """
    if text.isprintable():
        return text
    return "".join(
        sign if sign.isprintable() or sign in "\n\t" else sign.encode("unicode_escape").decode() for sign in text
    )


def join_words(words: Sequence[str]) -> str:
    """Returns `a`, `a and b` or `a, b and c`; an empty text without words."""
    return " and ".join(filter(None, (", ".join(words[:-1]), *words[-1:])))


def format_number(value: float, position: float | None = None) -> str:
    """Returns `0.001`, `2e-05`, `40` or `12,000`; with the signature of a formatter of matplotlib."""
    return f"{value:,g}"


def format_limits(low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """Returns the limits of an interval, `36.0 to 47.1`; an empty text without limits."""
    return "" if low is None or high is None else f"{write(low)} to {write(high)}"


def format_interval(value: float, low: float | None, high: float | None, write: Callable[[float], str]) -> str:
    """Returns a value with its limits, `41.2 (36.0 to 47.1)`; the value only, without limits."""
    limits = format_limits(low, high, write)
    return f"{write(value)} ({limits})" if limits else write(value)


def format_percent(share: float) -> str:
    """Returns a share with about two digits: `0.14 %`, `1.4 %`, `12 %`."""
    digits = 2 if 0 < share < 0.01 else 1 if 0 < share < 0.1 else 0
    return f"{100 * share:.{digits}f} %"


def format_part(count: int, total: int) -> str:
    """Returns a part of a count, `12%`; `<1%` for a part that would be rounded to nothing."""
    share = count / total
    return "<1%" if 0 < share < 0.005 else f"{share:.0%}"


def format_confidence(confidence: float) -> str:
    """Returns `95 %` or `99.5 %`."""
    return f"{100 * confidence:g} %"


def format_p_value(p: float | None) -> str:
    """Returns `0.03` or `<0.001`; a dash for None."""
    if p is None:
        return "–"
    return "<0.001" if p < 0.001 else f"{p:.3f}" if p < 0.0995 else f"{p:.2f}"


def format_bytes(count: int) -> str:
    """Returns `8 kB`, `450 MB` or `4.9 GB`."""
    for unit, name, digits in ((1e9, "GB", 1), (1e6, "MB", 0)):
        if count >= unit:
            return f"{count / unit:,.{digits}f} {name}"
    return f"{count / 1e3:,.0f} kB"


def format_seconds(seconds: float) -> str:
    """Returns `0.5 s`, `42 s`, `3 min 20 s` or `2 h 5 min`."""
    if seconds < 9.95:
        return f"{seconds:.1f} s"

    whole = round(seconds)
    if whole < 120:
        return f"{whole} s"

    minutes, rest = divmod(whole, 60)
    if minutes < 120:
        return f"{minutes} min {rest} s"
    return f"{minutes // 60} h {minutes % 60} min"


def shorten(text: str, max_length: int) -> str:
    """Returns the text on one line, cut to at most `max_length` characters."""
    line = " ".join(text.split())
    return line if len(line) <= max_length else line[: max_length - 1].rstrip() + "…"


def format_km(value_km: float) -> str:
    """Returns a distance with about three digits: `0.42 km`, `4.2 km`, `63 km`, `1,234 km`."""
    digits = 2 if value_km < 1 else 1 if value_km < 10 else 0
    return f"{value_km:,.{digits}f} km"


def format_m(metres: int) -> str:
    """Returns a round distance: `500 m`, `5 km`."""
    return f"{metres} m" if metres < 1000 else f"{metres / 1000:g} km"
