"""The page of a comparison: what it says, what it shows, what a browser makes of it."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from support.browser import needs_browser, open_page
from support.pictures import make_picture
from support.run_folders import make_places, write_run

from geoguesser.commands.compare import load_choices
from geoguesser.commands.configs import read_config
from geoguesser.evaluation.bootstrap import BootstrapSettings
from geoguesser.evaluation.comparison import Comparison, compare_groups
from geoguesser.evaluation.intervals import Interval
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region
from geoguesser.reporting import html as page
from geoguesser.reporting.comparison import plots
from geoguesser.reporting.comparison.page import render_comparison
from geoguesser.reporting.comparison.places import find_spread_places
from geoguesser.reporting.comparison.report import make_table, print_comparison, write_comparison
from geoguesser.reporting.comparison.text import DistanceFormatter
from geoguesser.runs.run_folder import read_runs
from geoguesser.system.text import format_p_value, format_seconds

PLACES = make_places(100)
HARD = np.random.default_rng(0).gamma(2.0, 15.0, 100)


def errors(seed: int) -> np.ndarray:
    return np.abs(HARD + 4.0 * np.random.default_rng(100 + seed).normal(size=100))


def compared(region: Region, *folders: Path) -> Comparison:
    runs, unused = read_runs([str(folder) for folder in folders], read_config)
    return compare_groups(runs, unused, region, BootstrapSettings(samples=1000), choices=load_choices())


@pytest.fixture(scope="module")
def four(tmp_path_factory, croatia) -> Comparison:
    """A baseline with three seeds, one that is better, one with few places, one that failed; an odd name."""
    home = tmp_path_factory.mktemp("alice")
    root = home / "photos"
    for uuid in PLACES["uuid"][:90]:
        (root / "images" / uuid).mkdir(parents=True)
        for heading in (0, 90, 180, 270):
            make_picture(heading, 64, 64).save(root / "images" / uuid / f"{heading}.jpg")
    data = {"data.roots": [str(root)]}
    sweep = home / "<b>sweep"
    for seed in range(3):
        write_run(sweep / str(seed), PLACES, errors(seed), changes={**data, "seed": seed}, val_km=20.0)
    write_run(sweep / "3", PLACES, 0.6 * errors(3), changes={**data, "grid.size": 30}, fit_s=100.0)
    write_run(sweep / "4", PLACES[:10], errors(4)[:10], changes={**data, "grid.size": 15})
    failed = write_run(sweep / "5", PLACES, errors(5), state="failed")
    (failed / "status.json").write_text('{"state": "failed", "error": "MissingFileError: /home/alice/x is gone"}')
    return compared(croatia, sweep)


class Parsed(HTMLParser):
    """Counts of elements, all text, and whether every element that opens is closed."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.counts: dict[str, int] = {}
        self.text, self.open, self.images = "", [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.counts[tag] = self.counts.get(tag, 0) + 1
        if tag == "img":
            self.images.append(dict(attrs))
        if tag not in ("img", "meta"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += f" {data}"


def test_the_page_says_what_was_found(four: Comparison):
    seen = Parsed(render_comparison(four, find_spread_places(four, 4), pictures=True))
    assert seen.open == []
    assert "Comparison of 3 configurations" in seen.text
    assert "A: better than it beyond noise" in seen.text
    assert "not compared" in seen.text
    assert "10 shared places, 20 needed" in seen.text
    assert "3 seeds" in seen.text
    assert "<b>sweep/5" in seen.text  # as text, not as an element
    assert "failed MissingFileError" in " ".join(seen.text.split())
    for heading in (
        "Results",
        "What differs",
        "Where the errors are",
        "Where they differ most",
        "How to read this",
    ):
        assert heading in seen.text
    # intervals, differences, three curves, a scale, three maps, a map and four views of each place
    shown = sum(place.photos is not None for place in find_spread_places(four, 4))
    assert len(seen.images) == 2 + 3 + 1 + 3 + 4 + 4 * shown
    assert shown >= 3
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in seen.images)


def test_no_folder_of_the_users_machine_is_on_the_page(four: Comparison):
    text = render_comparison(four, find_spread_places(four, 4), pictures=True)
    words = re.sub(r"base64,[A-Za-z0-9+/=]+", "", text)
    assert str(four.entries[0].group.runs[0].folder.parents[1]) not in words
    assert "alice" not in words
    assert not re.search(r"https?://", words)


def test_without_pictures_there_are_no_charts(four: Comparison):
    text = render_comparison(four, [], pictures=False)
    assert Parsed(text).images == []
    assert "Where the errors are" not in text
    assert len(text) < 60_000


def test_places_that_differ_most_come_first_with_their_views(four: Comparison, croatia):
    found = find_spread_places(four, 5)
    assert len(found) == 5
    by_label = {entry.label: at for at, entry in enumerate(four.entries)}
    base, good, few = (by_label[f"grid.size={size}"] for size in (60, 30, 15))
    table = {
        at: dict(zip(entry.group.uuid, entry.group.error_km, strict=True)) for at, entry in enumerate(four.entries)
    }
    ranges = {uuid: abs(table[base][uuid] - table[good][uuid]) for uuid in PLACES["uuid"]}
    assert [place.uuid for place in found] == sorted(ranges, key=ranges.get, reverse=True)[:5]
    for place in found:
        assert place.errors_km[base] == pytest.approx(table[base][place.uuid])
        expected = table[few].get(place.uuid, np.nan)  # one was tested on ten places, and has no say
        np.testing.assert_allclose(place.errors_km[few], expected)
        far_km = haversine_km(place.predicted_deg[[good]], place.coords_deg[None])
        np.testing.assert_allclose(far_km, place.errors_km[good], rtol=1e-4)
        if place.uuid in PLACES["uuid"][90:].tolist():
            assert place.photos is None
            continue
        assert place.photos is not None
        sizes = [Image.open(io.BytesIO(photo.jpeg)).size for photo in place.photos]
        assert sizes == [(160, 160)] * 4
    assert find_spread_places(four, 0) == []


def test_views_that_are_gone_are_said_to_be(tmp_path: Path, croatia):
    lost = {"data.roots": [str(tmp_path / "gone")]}
    found = compared(
        croatia,
        write_run(tmp_path / "a", PLACES, errors(0), changes=lost),
        write_run(tmp_path / "b", PLACES, errors(1), changes={**lost, "grid.size": 1}),
    )
    places = find_spread_places(found, 3)
    assert [place.photos for place in places] == [None] * 3
    seen = Parsed(render_comparison(found, places, pictures=False))
    assert "The views of 3 places are no longer where the runs' data were" in seen.text
    assert f"{places[0].coords_deg[0]:.5f}° N" in seen.text


def test_an_id_never_leads_out_of_its_root(tmp_path: Path, croatia):
    (tmp_path / "root" / "images").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    make_picture(0, 64, 64).save(tmp_path / "secret" / "0.jpg")
    odd = PLACES.assign(uuid=[f"../../secret{'/' * at}" for at in range(100)])
    roots = {"data.roots": [str(tmp_path / "root")]}
    found = compared(
        croatia,
        write_run(tmp_path / "a", odd, errors(0), changes=roots),
        write_run(tmp_path / "b", odd, errors(1), changes={**roots, "grid.size": 1}),
    )
    assert all(place.photos is None for place in find_spread_places(found, 100))


def test_one_run_makes_a_page_too(tmp_path: Path, croatia):
    found = compared(croatia, write_run(tmp_path / "one", PLACES, errors(0)))
    seen = Parsed(render_comparison(found, find_spread_places(found, 3), pictures=True))
    assert "There is nothing to compare it with" in seen.text
    assert "Against the baseline" not in seen.text


def test_the_table_beside_the_page_reads_back(four: Comparison, tmp_path: Path):
    import pandas as pd

    table = write_comparison(four, [], tmp_path / "c.html", pictures=False)
    assert table == tmp_path / "c.csv"
    read = pd.read_csv(table)
    expected = make_table(four)
    assert list(read) == list(expected)
    np.testing.assert_allclose(read["difference_km_mean"], expected["difference_km_mean"].astype(float), atol=1e-6)
    assert read["verdict"].tolist() == expected["verdict"].tolist()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "c.html"]


def test_the_terminal_says_the_same_in_80_columns(four: Comparison, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_comparison(four)
    lines = capsys.readouterr().out.splitlines()
    table = [line for line in lines if line.startswith(("┏", "┃", "│"))]
    assert table
    assert max(map(len, table)) <= 80
    text = "\n".join(lines)
    for entry in four.entries:
        assert DistanceFormatter(four).km(entry.mean.value) in text
        assert entry.label in text
    assert "not used: <b>sweep/5 (failed): MissingFileError: /home/alice/x is gone" in text


def test_numbers_are_written_for_people(four: Comparison):
    numbers = DistanceFormatter(four)
    assert numbers.km(12.345) == "12.3"
    assert numbers.signed(-3.14) == "−3.1"
    assert numbers.signed(3.14) == "+3.1"
    assert numbers.interval(Interval(1.0, -2.0, 3.0), signed=True) == "+1.0 (−2.0 to +3.0)"
    assert numbers.interval(Interval(1.0)) == "1.0"
    assert numbers.interval(None) == "–"
    assert [format_p_value(p) for p in (None, 0.0001, 0.0123, 0.5)] == ["–", "<0.001", "0.012", "0.50"]
    assert [format_seconds(s) for s in (0.44, 42, 200, 7500)] == ["0.4 s", "42 s", "3 min 20 s", "2 h 5 min"]


def test_the_front_is_what_nothing_beats():
    times, seconds = np.array([3.0, 1.0, 2.0, 4.0, 2.0]), np.array([5.0, 9.0, 7.0, 6.0, 8.0])
    assert plots.find_pareto_front(times, seconds) == [1, 2, 0]


def test_the_baseline_is_among_those_shown(four: Comparison):
    assert [entry.letter for entry in plots.select_entries(four, 2)] == sorted(
        {four.entries[0].letter, four.entries[max(1, four.baseline)].letter}
    )
    assert four.entries[four.baseline] in plots.select_entries(four, 1)


@needs_browser
def test_a_browser_finds_no_fault_and_asks_nobody(four: Comparison, tmp_path: Path):
    good = tmp_path / "compare.html"
    write_comparison(four, find_spread_places(four, 4), good, pictures=True)
    with open_page() as (browser_page, log):
        browser_page.goto(good.as_uri())
        assert log.console == []
        # The script makes the buttons.
        assert browser_page.locator("button").count() > 20


@needs_browser
def test_a_page_with_faults_is_reported(tmp_path: Path):
    bad = tmp_path / "bad.html"
    bad.write_text('<img src="http://photos.example/x.png"><script>nothing();</script>')
    with pytest.raises(AssertionError, match=r"photos\.example"), open_page() as (browser_page, log):
        browser_page.goto(bad.as_uri())
    assert log.outside_requests == ["http://photos.example/x.png"]
    assert len([line for line in log.console if "nothing is not defined" in line]) == 1


def page_of(body: str, script: str) -> str:
    """A page with this in its middle."""
    text = '{% extends "base.html" %}{% import "macros.html" as m %}{% block sections %}' + body + "{% endblock %}"
    return page.render_html(page.make_html_environment().from_string(text), title="t", scripts=[script])


@needs_browser
def test_headings_sort_by_number_and_word_with_nothing_last(tmp_path: Path):
    rows = """{% call m.table(["name", "far"], sortable=true) %}
      <tr><th scope="row">b</th>{{ m.number("9 km", 9.0) }}</tr>
      <tr><th scope="row">a</th>{{ m.number("10 km", 10.0) }}</tr>
      <tr><th scope="row">c</th>{{ m.number("–", none) }}</tr>{% endcall %}"""
    file = tmp_path / "table.html"
    file.write_text(page_of(rows, page.read_source("sorting.js")))
    orders = []
    with open_page() as (browser_page, _):
        browser_page.goto(file.as_uri())
        for heading in ("far", "far", "name"):
            browser_page.locator("th button", has_text=heading).click()
            orders.append("".join(browser_page.locator("tbody th").all_inner_texts()))
            assert browser_page.locator("th[aria-sort]").count() == 1
    assert orders == ["bac", "abc", "abc"]


@needs_browser
def test_no_other_script_runs_on_the_page(tmp_path: Path):
    text = page_of("<p>x</p>", "document.title = 'ours'")
    text = text.replace("</body>", "<script>document.title = 'theirs'</script></body>")
    (tmp_path / "x.html").write_text(text)
    with open_page() as (browser_page, log):
        browser_page.goto((tmp_path / "x.html").as_uri())
        assert browser_page.title() == "ours"
    assert len(log.console) == 1
