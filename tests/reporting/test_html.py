"""Pages and macros: values are escaped, and nothing is fetched."""

from __future__ import annotations

import base64
import hashlib

import pytest
from jinja2 import UndefinedError
from support.html_page import HtmlPage
from support.pictures import encode_image, make_picture

from geoguesser.reporting import html as page
from geoguesser.system.text import replace_unprintable

NASTY = ["<b>x&y", "\"' onload=alert(1)", "</style><script>1</script>", "&lt;", "<!-- -->", "žđ \N{GRINNING FACE}"]


def render(source: str, /, **values: object) -> str:
    """Renders a template that may use the macros."""
    return page.make_html_environment().from_string('{% import "macros.html" as m %}' + source).render(values)


@pytest.mark.parametrize("text", NASTY)
def test_text_stays_text_in_every_macro(text: str) -> None:
    macros = """{{ m.tiles([(text, text)]) }}{{ m.facts([(text, text)]) }}
        {{ m.over(text, text, strong=true) }}{{ m.dotted(text, text) }}{{ m.number(text, text, text) }}
        {{ m.figure(text, text, text, class=text) }}
        {% call m.section([], text, text) %}
        {% call m.table([text], lead=text) %}{{ text }}{% endcall %}{% endcall %}"""
    seen, plain = HtmlPage(render(macros, text=text)), HtmlPage(render(macros, text="x"))
    assert [name for name, _ in seen.elements] == [name for name, _ in plain.elements]
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
    seen = HtmlPage(render(text))
    assert [tag["scope"] for tag in seen.all("th")] == ["col", "col", "row"]
    assert seen.text.split() == ["Why.", "split", "places", "test<1%"]


@pytest.mark.parametrize("kind", ["png", "jpeg"])
def test_pictures_are_embedded(kind: str) -> None:
    picture = encode_image(make_picture(0), kind)
    (attributes,) = HtmlPage(render("{{ m.chart(data | data_uri, 'a < b') }}", data=picture)).all("img")
    assert attributes["src"] == f"data:image/{kind};base64,{base64.b64encode(picture).decode()}"
    assert attributes["alt"] == "a < b"


def test_page_has_title_policy_and_sections() -> None:
    template = page.make_html_environment().from_string(
        '{% extends "base.html" %}{% import "macros.html" as m %}'
        '{% block sections %}{% call m.section(contents, "one", "First") %}<p>x</p>{% endcall %}{% endblock %}'
    )
    text = page.render_html(template, title="A < B", scripts=["1 < 2"], styles=["a > b { }"])
    seen = HtmlPage(text)
    assert text.startswith("<!doctype html>")
    assert "<script>1 < 2</script>" in text
    assert "a > b { }" in text
    assert "<title>A &lt; B</title>" in text
    assert seen.all("html") == [{"lang": "en"}]
    assert {"name": "viewport", "content": "width=device-width, initial-scale=1"} in seen.all("meta")
    (policy,) = (tag["content"] for tag in seen.all("meta") if "http-equiv" in tag)
    digest = base64.b64encode(hashlib.sha256(b"1 < 2").digest()).decode()
    assert "default-src 'none'" in policy
    assert policy.endswith(f"script-src 'sha256-{digest}'")
    assert "prefers-color-scheme: dark" in text
    (section,) = (tag for _, tag in seen.elements if tag.get("id") == "one")
    assert section["aria-labelledby"] in [tag.get("id") for _, tag in seen.elements]


def test_data_for_scripts_cannot_end_their_element() -> None:
    text = render("{{ data | tojson }}", data={"id": "</script><b>", "n": 1})
    assert text == '{"id":"\\u003c/script\\u003e\\u003cb\\u003e","n":1}'
    with pytest.raises(ValueError, match="not JSON compliant"):
        render("{{ data | tojson }}", data={"n": float("nan")})
