"""Model card: values appear in Markdown as they are."""

from __future__ import annotations

from geoguesser.exporting.model_card import make_markdown_environment


def test_markdown_shows_text_as_it_is() -> None:
    template = make_markdown_environment().from_string("| {{ name }} |\n")
    assert (
        template.render(name="a|b\n*c* <i> `d` e_f")
        == "| a\\|b\N{REPLACEMENT CHARACTER}\\*c\\* \\<i\\> \\`d\\` e_f |\n"
    )
