"""The generic page: what comes in as text stays text, and nothing is fetched."""

from __future__ import annotations

import base64
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from geoguesser.reporting import html as page


class Texts(HTMLParser):
    """Text and elements, as a browser would see them."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.names: list[str] = []
        self.attributes: list[dict[str, str | None]] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.names.append(tag)
        self.attributes.append(dict(attrs))

    def handle_data(self, data: str) -> None:
        self.text += data


NASTY = ["<b>x&y", "\"' onload=alert(1)", "</style><script>1</script>", "&lt;", "<!-- -->", "žđ \N{GRINNING FACE}"]


@pytest.mark.parametrize("text", NASTY)
def test_text_stays_text_in_content_and_attributes(text: str) -> None:
    seen = Texts(page.tag("p", text, title=text))
    assert seen.names == ["p"]
    assert seen.text == text
    assert seen.attributes == [{"title": text}]


def test_html_is_not_escaped_twice() -> None:
    inner = page.tag("b", "a & b")
    assert page.tag("p", inner, " < c") == "<p><b>a &amp; b</b> &lt; c</p>"
    assert page.escaped(inner) is inner


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\x00b", "a\udcffb", "a\u202eb"])
def test_what_cannot_be_shown_or_written_is_replaced(text: str) -> None:
    assert page.printable(text)[0] == "a"
    assert "\N{REPLACEMENT CHARACTER}" in page.printable(text)
    page.tag("p", text).encode()


def test_attributes_of_none_are_left_out_and_names_are_html() -> None:
    assert page.tag("a", class_=None, aria_label="x", href="#y") == '<a aria-label="x" href="#y"></a>'
    assert page.tag("meta", charset="utf-8") == '<meta charset="utf-8">'


def test_table_has_headings_for_columns_and_rows() -> None:
    seen = Texts(page.table(["split", "places"], [["train", 3], ["test", "<1%"]], lead="Why."))
    scopes = [one.get("scope") for one in seen.attributes if "scope" in one]
    assert scopes == ["col", "col", "row", "row"]
    assert seen.text == "Why.splitplacestrain3test<1%"


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_picture_lies_in_the_page_whole(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 7, 3), 90, dtype=np.uint8)).save(buffer, kind)
    (attributes,) = Texts(page.image(buffer.getvalue(), alt="a < b")).attributes
    head, data = str(attributes["src"]).split(",")
    assert head == f"data:image/{kind};base64"
    assert base64.b64decode(data) == buffer.getvalue()
    assert attributes["alt"] == "a < b"


def test_whole_page_is_written_whole(tmp_path: Path) -> None:
    text = page.page("A < B", page.section("one", "First", page.tag("p", "x")))
    page.write_page(tmp_path / "report.html", text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    seen = Texts((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert text.startswith("<!doctype html>")
    assert {"lang": "en"} in seen.attributes
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in seen.attributes
    (policy,) = (one["content"] for one in seen.attributes if "http-equiv" in one)
    assert "default-src 'none'" in str(policy)
    assert "prefers-color-scheme: dark" in text
    section = next(one for one in seen.attributes if one.get("id") == "one")
    assert section["aria-labelledby"] in [one.get("id") for one in seen.attributes]
