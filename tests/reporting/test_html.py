"""Pages and macros: values are escaped, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib
import io
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from jinja2 import UndefinedError
from PIL import Image

from geoguesser.reporting import html as page
from geoguesser.system.files import write_text
from geoguesser.system.text import replace_unprintable


class Texts(HTMLParser):
    """Parses text and elements of a page."""

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


def render(source: str, /, **values: object) -> str:
    """Renders a template that may use the macros."""
    return page.make_html_environment().from_string('{% import "macros.html" as m %}' + source).render(values)


@pytest.mark.parametrize("text", NASTY)
def test_text_stays_text_in_content_and_attributes(text: str) -> None:
    seen = Texts(render('<p title="{{ text }}">{{ text }}</p>', text=text))
    assert seen.names == ["p"]
    assert seen.text == text
    assert seen.attributes == [{"title": text}]


@pytest.mark.parametrize("text", NASTY)
def test_text_stays_text_in_every_macro(text: str) -> None:
    macros = """{{ m.tiles([(text, text)]) }}{{ m.facts([(text, text)]) }}
        {{ m.over(text, text, strong=true) }}{{ m.dotted(text, text) }}{{ m.number(text, text, text) }}
        {{ m.figure(text, text, text, class=text) }}
        {% call m.section([], text, text) %}
        {% call m.table([text], lead=text) %}{{ text }}{% endcall %}{% endcall %}"""
    seen, plain = Texts(render(macros, text=text)), Texts(render(macros, text="x"))
    assert seen.names == plain.names
    assert seen.text == plain.text.replace("x", text)


def test_missing_value_is_an_error() -> None:
    with pytest.raises(UndefinedError):
        render("{{ nothing }}")


@pytest.mark.parametrize("text", ["a\x1b[31mb", "a\nb", "a\x00b", "a\udcffb", "a\u202eb"])
def test_unprintable_characters_are_replaced(text: str) -> None:
    assert replace_unprintable(text)[0] == "a"
    assert "\N{REPLACEMENT CHARACTER}" in replace_unprintable(text)
    assert replace_unprintable(text) in render("{{ m.over(text) }}", text=text)


def test_table_has_headings_for_columns_and_rows() -> None:
    rows = '<tr><th scope="row">test</th>{{ m.number("<1%", 0.1) }}</tr>'
    text = '{% call m.table(["split", "places"], lead="Why.") %}' + rows + "{% endcall %}"
    seen = Texts(render(text))
    scopes = [tag["scope"] for tag in seen.attributes if "scope" in tag]
    assert scopes == ["col", "col", "row"]
    assert seen.text.split() == ["Why.", "split", "places", "test<1%"]


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_pictures_are_embedded(kind: str) -> None:
    buffer = io.BytesIO()
    Image.fromarray(np.full((5, 7, 3), 90, dtype=np.uint8)).save(buffer, kind)
    text = render("{{ m.chart(data | data_uri, 'a < b') }}", data=buffer.getvalue())
    (attributes,) = Texts(text).attributes
    head, data = str(attributes["src"]).split(",")
    assert head == f"data:image/{kind};base64"
    assert base64.b64decode(data) == buffer.getvalue()
    assert attributes["alt"] == "a < b"


def test_page_has_title_policy_and_sections(tmp_path: Path) -> None:
    template = page.make_html_environment().from_string(
        '{% extends "base.html" %}{% import "macros.html" as m %}'
        '{% block sections %}{% call m.section(contents, "one", "First") %}<p>x</p>{% endcall %}{% endblock %}'
    )
    text = page.render_html(template, title="A < B", scripts=["1 < 2"], styles=["a > b { }"])
    write_text(tmp_path / "report.html", text)
    assert [path.name for path in tmp_path.iterdir()] == ["report.html"]
    seen = Texts((tmp_path / "report.html").read_text(encoding="utf-8"))
    assert text.startswith("<!doctype html>")
    assert "<script>1 < 2</script>" in text
    assert "a > b { }" in text
    assert "<title>A &lt; B</title>" in text
    assert {"lang": "en"} in seen.attributes
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in seen.attributes
    (policy,) = (tag["content"] for tag in seen.attributes if "http-equiv" in tag)
    digest = base64.b64encode(hashlib.sha256(b"1 < 2").digest()).decode()
    assert "default-src 'none'" in str(policy)
    assert str(policy).endswith(f"script-src 'sha256-{digest}'")
    assert "prefers-color-scheme: dark" in text
    section = next(tag for tag in seen.attributes if tag.get("id") == "one")
    assert section["aria-labelledby"] in [tag.get("id") for tag in seen.attributes]


def test_data_for_scripts_cannot_end_their_element() -> None:
    text = "{{ data | tojson }}"
    assert (
        render(text, data={"id": "</script><b>", "n": 1}) == '{"id":"\\u003c/script\\u003e\\u003cb\\u003e","n":1}'
    )
    with pytest.raises(ValueError, match="not JSON compliant"):
        render(text, data={"n": float("nan")})
