"""Console for tables and reports in the terminal."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from geoguesser.system.text import escape_unprintable


class TextConsole(Console):
    """Console without line breaks and highlighting, in which no text can control the terminal.

    Names of folders, ids and messages may be somebody else's. Characters in them such as ESC are shown escaped.
    """

    def __init__(self, **settings: Any) -> None:
        super().__init__(soft_wrap=True, highlight=False, **settings)

    def render(self, renderable: RenderableType, options: ConsoleOptions | None = None) -> Iterable[Segment]:
        for segment in super().render(renderable, options):
            yield segment if segment.control else segment._replace(text=escape_unprintable(segment.text))
