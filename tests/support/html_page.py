"""Parsed pages: elements, texts and tables."""

from __future__ import annotations

from html.parser import HTMLParser


class HtmlPage(HTMLParser):
    """Parser of a page in which every element must be closed.

    Attributes:
        elements: Name and attributes of each element.
        texts: Each text, after the name of its element.
        tables: Cells of each table by row.
    """

    def __init__(self, source: str) -> None:
        super().__init__()
        self.source = source
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.texts: list[tuple[str, str]] = []
        self.tables: list[list[list[str]]] = []
        self._open: list[str] = []
        self.feed(source)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, {key: value or "" for key, value in attrs}))
        if tag not in ("img", "meta"):
            self._open.append(tag)
        if tag == "table":
            self.tables.append([])
        if tag == "tr":
            self.tables[-1].append([])
        if tag in ("td", "th") and "tr" in self._open:
            self.tables[-1][-1].append("")

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"{tag} is closed out of turn"

    def handle_data(self, data: str) -> None:
        self.texts.append((self._open[-1] if self._open else "", data))
        if "tr" in self._open and {"td", "th"} & set(self._open):
            self.tables[-1][-1][-1] += data

    @property
    def text(self) -> str:
        """All text that is shown."""
        return "".join(text for name, text in self.texts if name not in ("style", "script"))

    def all(self, tag: str) -> list[dict[str, str]]:
        """Returns the attributes of all elements of a name."""
        return [attributes for name, attributes in self.elements if name == tag]

    def within(self, tag: str) -> list[str]:
        """Returns the texts directly in elements of a name."""
        return [text for name, text in self.texts if name == tag]

    def table(self, first: str) -> dict[str, list[str]]:
        """Returns the rows of a table, found by its first heading, by the heading of the row."""
        (rows,) = (table for table in self.tables if table[0][0] == first)
        return {row[0]: row[1:] for row in rows[1:]}
