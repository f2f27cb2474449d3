"""HTML pages and Markdown from the Jinja2 templates in reporting/templates/.

A page is one file: it fetches no script, font or picture. The environments escape all text, so that templates need
not; text that is HTML already has the type `Markup`, which only style sheets, scripts and rendered templates have.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
import re
import tempfile
from collections.abc import Callable, Collection, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, Concatenate, NamedTuple, ParamSpec

from jinja2 import Environment, PackageLoader, StrictUndefined, Template
from markupsafe import Markup

from geoguesser import __version__
from geoguesser.counted import counted
from geoguesser.reporting.style import format_km

# A browser that obeys this loads nothing from outside, whatever got into the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"

# Characters that begin emphasis, code, links, HTML or a new cell of a table.
MARKDOWN_SIGNS = re.compile(r"([\\`*\[\]<>|])")

P = ParamSpec("P")
VOID = ("img", "input", "meta")  # elements without content or end


def printable(text: str) -> str:
    """Replaces characters that cannot be shown or written: control characters and lone surrogates."""
    if text.isprintable():
        return text
    return "".join(sign if sign.isprintable() else "\N{REPLACEMENT CHARACTER}" for sign in text)


def escape_markdown(value: object) -> str:
    """Text that Markdown shows as it is, on one line."""
    return value if isinstance(value, Markup) else MARKDOWN_SIGNS.sub(r"\\\1", printable(str(value)))


def to_data_uri(data: bytes) -> str:
    """Address that holds a PNG or JPEG itself."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


def draw_data_uri(draw: Callable[Concatenate[Path, P], None], *args: P.args, **kwargs: P.kwargs) -> str:
    """Address that holds the picture which a function draws into the file given as its first argument."""
    with tempfile.TemporaryDirectory(prefix="geoguesser-picture-") as folder:
        path = Path(folder) / "picture.png"
        draw(path, *args, **kwargs)
        return to_data_uri(path.read_bytes())


def _finalize_html(value: object) -> object:
    return value if isinstance(value, Markup) else printable(str(value))


@cache
def html_environment() -> Environment:
    """Environment of the pages: it escapes all text and replaces characters that cannot be shown."""
    environment = Environment(
        loader=PackageLoader("geoguesser.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize_html,
    )
    environment.globals |= {
        "counted": counted,
        "format_km": format_km,
        "version": __version__,
    }
    environment.filters |= {"data_uri": to_data_uri, "thousands": "{:,}".format}
    environment.policies["json.dumps_kwargs"] = {"allow_nan": False, "separators": (",", ":")}
    return environment


@cache
def markdown_environment() -> Environment:
    """Environment of Markdown files: it escapes the signs of Markdown instead of those of HTML."""
    return html_environment().overlay(autoescape=False, finalize=escape_markdown, keep_trailing_newline=True)


def read_source(name: str) -> str:
    """Text of a style sheet or script beside the templates."""
    return (files("geoguesser.reporting") / "templates" / name).read_text(encoding="utf-8")


def render_page(
    template: str | Template, *, scripts: Sequence[str] = (), styles: Sequence[str] = (), **values: Any
) -> str:
    """Returns the text of a page.

    Args:
        template: Template that extends base.html, or its name.
        scripts: JavaScript of the page, which runs once it is loaded; no other script may run on it.
        styles: CSS besides that of all pages.
        **values: Values of the template, among them its `title`.
    """
    script, policy = "\n".join(scripts), POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
    style = "".join((read_source("page.css"), *styles))

    page = html_environment().get_template(template)
    return page.render(policy=policy, script=Markup(script), style=Markup(style), **values)


def render_markdown(template: str, **values: Any) -> str:
    """Returns the text of a Markdown file from a template."""
    return markdown_environment().get_template(template).render(**values)


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def escaped(value: object) -> Html:
    """A value as HTML: as it is where it is HTML already, else its text, escaped."""
    return value if isinstance(value, Html) else Html(html.escape(printable(str(value))))


def joined(parts: Sequence[object], between: str = "") -> Html:
    """Parts one after the other."""
    return Html(between.join(escaped(part) for part in parts))


def tag(name: str, /, *content: object, **attributes: object) -> Html:
    """An element.

    Args:
        name: For example `p`.
        content: What is in it; what is not `Html` is escaped.
        attributes: For example `class_="muted"`, as `class` is Python's own word; None leaves one out.
    """
    words = "".join(
        f' {key.rstrip("_").replace("_", "-")}="{escaped(value)}"'
        for key, value in attributes.items()
        if value is not None
    )
    return Html(f"<{name}{words}>" if name in VOID else f"<{name}{words}>{joined(content)}</{name}>")


def section(anchor: str, heading: str, *content: object) -> Html:
    """A part of the page under a heading of the second level, which its list of contents can name."""
    return tag("section", tag("h2", heading, id=f"{anchor}-h"), *content, id=anchor, aria_labelledby=f"{anchor}-h")


class Keyed(NamedTuple):
    """A cell of a table that is sorted by something else than its text; nothing comes last.

    Attributes:
        content: What is shown.
        key: By what it is sorted.
    """

    content: object
    key: float | str | None


def table(
    head: Sequence[object],
    rows: Sequence[Sequence[object]],
    *,
    words: int | Collection[int] = 1,
    lead: object = None,
    sortable: bool = False,
) -> Html:
    """A table that scrolls sideways by itself where the screen is narrow; each row's first cell is its heading.

    Args:
        head: The columns' headings.
        rows: Cells.
        words: How many columns, from the left, are words, or which; the others are numbers and stand to the right.
        lead: A sentence above it, which does not scroll with it.
        sortable: Whether its headings sort it, on a page with `SORTING`; cells may then be `Keyed`.
    """
    left = range(words) if isinstance(words, int) else words
    looks = [None if number in left else "number" for number in range(len(head))]
    first = [tag("th", cell, scope="col", class_=look) for cell, look in zip(head, looks, strict=True)]
    body = [
        tag(
            "tr",
            _cell("th", row[0], scope="row"),
            *(_cell("td", cell, class_=look) for cell, look in zip(row[1:], looks[1:], strict=True)),
        )
        for row in rows
    ]
    kind = "sortable" if sortable else None
    whole = tag("table", tag("thead", tag("tr", *first)), tag("tbody", *body), class_=kind)
    label = ", ".join(str(cell) for cell in head)
    scrolls = tag("div", whole, class_="wide", tabindex=0, role="region", aria_label=f"table: {label}")
    above = [] if lead is None else [tag("p", lead, class_="muted")]
    return joined((*above, scrolls))


def _cell(name: str, cell: object, **attributes: object) -> Html:
    if not isinstance(cell, Keyed):
        return tag(name, cell, **attributes)
    return tag(name, cell.content, data_key="" if cell.key is None else cell.key, **attributes)


def facts(pairs: Sequence[tuple[object, object]]) -> Html:
    """Names with what is to say of each."""
    return tag("dl", *(joined((tag("dt", name), tag("dd", value))) for name, value in pairs), class_="facts")


def image(data: bytes, *, alt: str, class_: str | None = None) -> Html:
    """A PNG or JPEG within the page."""
    kind = "png" if data.startswith(b"\x89PNG") else "jpeg"
    source = f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
    return tag("img", src=source, alt=alt, class_=class_)


def page(title: str, *content: object, script: str = "", style: str = "") -> str:
    """The whole file.

    Args:
        title: Of the window.
        content: The parts, one after the other.
        script: JavaScript that runs when the page stands; no other may run on it.
        style: CSS beside the style of all pages.
    """
    policy = POLICY
    if script:
        digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode("ascii")
        policy += f"; script-src 'sha256-{digest}'"
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content=policy),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("title", title),
        tag("style", Html(read_source("page.css") + style)),
    )
    last = [tag("script", Html(script))] if script else []
    body = tag("body", tag("main", joined(content, "\n")), *last)
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def write_page(path: Path, text: str) -> None:
    """Writes the file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)
