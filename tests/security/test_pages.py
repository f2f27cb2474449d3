"""Text of a stranger stays text: in pages, in tooltips, on terminals, in spreadsheets and in model cards."""

from __future__ import annotations

import io
import re
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT
from rich.table import Table
from rich.text import Text

from geoguesser.exporting.model_card import escape_markdown
from geoguesser.reporting.terminal import TextConsole
from geoguesser.system.files import write_csv
from geoguesser.system.text import escape_unprintable

LEAFLET = ROOT / "geoguesser" / "reporting" / "leaflet" / "leaflet.js"
SCRIPTS = sorted(set((ROOT / "geoguesser").rglob("*.js")) - {LEAFLET})
PAGES = sorted((ROOT / "geoguesser").rglob("*.html"))
MODULES = sorted((ROOT / "geoguesser").rglob("*.py"))
# Calls that parse a string as HTML or as a program.
PARSING = re.compile(
    r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|createContextualFragment|DOMParser|srcdoc|\beval\(|"
    r"new Function|set(?:Timeout|Interval)\(\s*[\"'`]|javascript:|\.setHTML"
)
# Leaflet parses strings given to these; `plain` makes a text node.
LEAFLET_TEXT = re.compile(r"(?:bind(?:Tooltip|Popup)|setContent|setTooltipContent)\((?!(?:\(\) => )?plain\()")


def test_the_lint_sees_scripts_and_pages():
    assert {"explain.js", "map.js", "main.js"} <= {file.name for file in SCRIPTS}
    assert {"explain.html", "index.html", "macros.html"} <= {file.name for file in PAGES}


@pytest.mark.parametrize("file", [*SCRIPTS, *PAGES], ids=lambda file: file.name)
def test_no_script_parses_text_as_html(file: Path):
    text = file.read_text(encoding="utf-8")
    assert PARSING.findall(text) == []
    assert LEAFLET_TEXT.findall(text) == []
    if file.suffix == ".html":
        # No handlers in attributes, no unescaped values, no autoescape switched off.
        assert re.findall(r"\son[a-z]+\s*=|\|\s*safe\b|autoescape\s+false", text) == []


def test_only_the_module_of_pages_marks_text_as_html():
    marking = [file.name for file in MODULES if re.search(r"\bMarkup\(", file.read_text(encoding="utf-8"))]
    assert marking == ["html.py"]


def test_a_terminal_is_not_controlled_by_names():
    assert escape_unprintable("a\x1b]0;title\x07b\x9b31m\u202e\ud800\nc\td") == (
        "a\\x1b]0;title\\x07b\\x9b31m\\u202e\\ud800\nc\td"
    )


def test_a_console_escapes_names_in_tables_and_keeps_its_own_colours():
    stream = io.StringIO()
    console = TextConsole(file=stream, force_terminal=True, width=80, color_system="standard")
    table = Table("name\x1b[2J")
    table.add_row("\x1b]0;title\x07 [red]", style="red")
    console.print(table)
    console.print(Text("\x1b[31m", style="bold"))
    output = stream.getvalue()
    assert "name\\x1b" in output
    assert "\\x1b]0;" in output
    assert not re.search(r"\x1b(?!\[[\d;]*m)", output)
    assert "\x1b[31m" in output  # the style red of the row


def test_formulas_are_quoted_in_tables_for_people_only(tmp_path: Path):
    cells = ["=1+1", "+cmd", "-2+3", "@SUM(1)", "\t=1", "\r=1", "ordinary", "-7", ""]
    table = pd.DataFrame({"text": cells, "number": [-1.5] * len(cells)})
    write_csv(tmp_path / "people.csv", table, for_people=True)
    write_csv(tmp_path / "program.csv", table)

    people, program = (
        pd.read_csv(tmp_path / f"{name}.csv", keep_default_na=False, dtype={"text": str}, lineterminator="\n")
        for name in ("people", "program")
    )
    assert people["text"].tolist() == [*(f"'{cell}" for cell in cells[:6]), *cells[6:]]
    assert program["text"].tolist() == cells
    assert people["number"].tolist() == program["number"].tolist() == [-1.5] * len(cells)


def test_a_region_name_is_text_in_a_model_card():
    name = "<img src=x onerror=alert(1)> [a](javascript:b) `c` | d\n# e"
    escaped = escape_markdown(name)
    assert "\n" not in escaped
    assert re.findall(r"(?<!\\)[<>\[\]`|*]", escaped) == []
