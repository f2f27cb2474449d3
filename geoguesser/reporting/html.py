"""Page: one HTML file with all that it shows in it. No script, no font, no picture is fetched from anywhere.

What comes in as text is escaped here and nowhere else; what is HTML already has the type `Html`. This file
knows nothing of places.
"""

from __future__ import annotations

import base64
import hashlib
import html
import os
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import NamedTuple

# A browser that obeys this loads nothing from outside, whatever got into the page.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"
VOID = ("img", "input", "meta")  # elements without content or end

STYLE = """
:root {
  color-scheme: light dark;
  --paper: #ffffff; --card: #f6f7f8; --ink: #1d2329; --muted: #5b6670; --line: #dfe3e6; --link: #0072b2;
  --alert: #fff4e0; --alert-line: #d97a00; --hatch: #c9ced3;
}
@media (prefers-color-scheme: dark) {
  :root {
    --paper: #14181c; --card: #1e2429; --ink: #e6e9ec; --muted: #9aa5ae; --line: #333b42; --link: #56b4e9;
    --alert: #33270f; --alert-line: #e69f00; --hatch: #434c54;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; background: var(--paper); color: var(--ink); overflow-wrap: anywhere;
  font: 16px/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 70rem; margin: 0 auto; padding: 1.5rem 1.25rem 3rem; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0; }
h2 { font-size: 1.3rem; margin: 2.75rem 0 .75rem; padding-top: .75rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
p { margin: .4rem 0; max-width: 46rem; }
a { color: var(--link); }
code { font: .875em/1.4 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; }
.muted, figcaption { color: var(--muted); }
.small { font-size: .875rem; }
nav { display: flex; flex-wrap: wrap; gap: .25rem 1.1rem; margin-top: .75rem; }
.label { display: inline-block; padding: .05rem .5rem; border: 1px solid currentColor; border-radius: 1rem;
  font-size: .8rem; font-weight: 600; white-space: nowrap; vertical-align: .15em; }
.alert { margin: 1.25rem 0 0; padding: .75rem 1rem; background: var(--alert);
  border-left: .3rem solid var(--alert-line); border-radius: .25rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(8.5rem, 1fr)); gap: .6rem;
  margin: 1.25rem 0 0; padding: 0; list-style: none; }
.tiles li { background: var(--card); border-radius: .5rem; padding: .6rem .8rem; }
.tiles b { display: block; font-size: 1.5rem; line-height: 1.25; font-variant-numeric: tabular-nums; }
.facts { display: grid; grid-template-columns: max-content 1fr; gap: .35rem 1.25rem; margin: 1.25rem 0 0; }
.facts dt { color: var(--muted); }
.facts dd { margin: 0; max-width: 56rem; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; overflow-wrap: normal; }
th, td { text-align: left; vertical-align: top; padding: .35rem 1.1rem .35rem 0;
  border-bottom: 1px solid var(--line); }
thead th { color: var(--muted); font-weight: 600; vertical-align: bottom; }
tbody th { font-weight: 600; }
.meaning { font-weight: 400; color: var(--muted); font-size: .875rem; }
.number { text-align: right; }
th button { all: unset; cursor: pointer; }
th button:focus-visible { outline: 2px solid var(--link); outline-offset: 2px; border-radius: .15rem; }
th button::after { content: "\\2195"; margin-left: .3em; opacity: .45; }
th[aria-sort="ascending"] button::after { content: "\\2191"; opacity: 1; }
th[aria-sort="descending"] button::after { content: "\\2193"; opacity: 1; }
td.number, .name { white-space: nowrap; }
.dot { display: inline-block; width: .7em; height: .7em; border-radius: 50%; margin-right: .45em; }
.key { display: flex; flex-wrap: wrap; gap: .2rem 1.2rem; margin: 0 0 .5rem; padding: 0; list-style: none; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 25rem), 1fr)); gap: 1.25rem;
  margin-top: .75rem; }
.side { display: flex; flex-wrap: wrap; gap: .1rem .8rem; }
figure { margin: 0; min-width: 0; }
figure h3 { margin-top: .75rem; }
figcaption { font-size: .875rem; margin-top: .35rem; }
.chart { display: block; width: 100%; max-width: 40rem; height: auto; background: #fff; border-radius: .5rem;
  border: 1px solid var(--line); }
@media (prefers-color-scheme: dark) { .chart { filter: brightness(.88); } }
.below { margin-top: .6rem; }
.views { display: grid; grid-template-columns: repeat(4, 1fr); gap: .25rem; margin: .35rem 0 .15rem; }
.view { position: relative; aspect-ratio: 1; border-radius: .25rem; overflow: hidden; background: var(--card); }
.view img { display: block; width: 100%; height: 100%; object-fit: cover; }
.view b { position: absolute; left: .25rem; top: .25rem; padding: 0 .35rem; border-radius: .2rem; color: #fff;
  background: rgba(0, 0, 0, .6); font-size: .75rem; line-height: 1.25rem; }
.none { display: grid; place-items: center; border: 1px dashed var(--muted); background: var(--paper)
  repeating-linear-gradient(45deg, transparent 0 .4rem, var(--hatch) .4rem calc(.4rem + 1px)); }
.none i { font-size: .75rem; font-style: normal; text-align: center; background: var(--paper); padding: 0 .35rem;
  border-radius: .2rem; }
.card { background: var(--card); border-radius: .5rem; padding: .75rem .9rem .9rem; }
.card h3 { margin-top: 0; }
details { border-bottom: 1px solid var(--line); padding: .5rem 0; }
summary { cursor: pointer; }
details ol { padding-left: 2.2rem; margin: .5rem 0; }
details li { margin: .25rem 0; }
footer { margin-top: 3rem; color: var(--muted); font-size: .875rem; }
@media (max-width: 40rem) {
  main { padding: 1rem .9rem 2rem; }
  h1 { font-size: 1.4rem; }
  .tiles { grid-template-columns: repeat(3, 1fr); gap: .4rem; }
  .tiles li { padding: .45rem .55rem; }
  .tiles b { font-size: 1.2rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .6rem; }
  th, td { padding-right: .8rem; font-size: .9rem; }
}
"""


# Lets a click or the return key on a heading sort its table. Without it the page lacks nothing else.
SORTING = """
for (const table of document.querySelectorAll("table.sortable")) {
  const body = table.tBodies[0], heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const button = document.createElement("button");
    button.type = "button";
    button.append(...head.childNodes);
    head.append(button);
    button.addEventListener("click", () => {
      const up = head.getAttribute("aria-sort") !== "ascending";
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", up ? "ascending" : "descending");
      const key = (row) => row.cells[column].dataset.key ?? row.cells[column].textContent;
      const order = (a, b) => {
        const x = key(a), y = key(b);
        if (x === "" || y === "") return (x === "") - (y === "");
        const both = isNaN(x) || isNaN(y) ? x.localeCompare(y, "en", { numeric: true }) : x - y;
        return up ? both : -both;
      };
      body.append(...[...body.rows].sort(order));
    });
  });
}
"""


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def printable(text: str) -> str:
    """The text with a sign in place of what cannot be shown or written: control characters, lone surrogates."""
    return "".join(one if one.isprintable() else "\N{REPLACEMENT CHARACTER}" for one in text)


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
        tag("style", Html(STYLE + style)),
    )
    last = [tag("script", Html(script))] if script else []
    body = tag("body", tag("main", joined(content, "\n")), *last)
    return f"<!doctype html>\n{tag('html', head, body, lang='en')}\n"


def write_page(path: Path, text: str) -> None:
    """Writes the file whole or not at all."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(text, encoding="utf-8")
    os.replace(fresh, path)
