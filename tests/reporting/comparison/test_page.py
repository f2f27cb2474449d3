"""Page, table and terminal output of a comparison."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.browser import needs_browser, open_page
from support.pictures import make_picture
from support.run_folders import make_places, write_run

from geoguesser.commands.compare import load_choices
from geoguesser.commands.recorded_config import read_config
from geoguesser.evaluation.bootstrap import BootstrapSettings
from geoguesser.evaluation.comparison import Comparison, compare_groups
from geoguesser.evaluation.intervals import Interval
from geoguesser.geo.distance import haversine_km
from geoguesser.geo.region import Region
from geoguesser.reporting.comparison import plots
from geoguesser.reporting.comparison.page import render_comparison
from geoguesser.reporting.comparison.places import find_spread_places
from geoguesser.reporting.comparison.report import make_table, print_comparison, write_comparison
from geoguesser.reporting.comparison.text import DistanceFormatter
from geoguesser.reporting.html import make_html_environment, read_source, render_html
from geoguesser.runs.run_folder import read_runs
from geoguesser.system.text import format_p_value, format_seconds

PLACES = make_places(100)
DIFFICULTY = np.random.default_rng(0).gamma(2.0, 15.0, 100)


def make_errors(seed: int) -> np.ndarray:
    return np.abs(DIFFICULTY + 4.0 * np.random.default_rng(100 + seed).normal(size=100))


def compare(region: Region, *folders: Path) -> Comparison:
    runs, unused = read_runs([str(folder) for folder in folders], read_config)
    return compare_groups(runs, unused, region, BootstrapSettings(samples=1000), choices=load_choices())


def compare_two(tmp_path: Path, region: Region, places: pd.DataFrame, root: Path) -> Comparison:
    """Returns the comparison of two groups whose data were in a folder."""
    folders = [
        write_run(
            tmp_path / str(size), places, make_errors(size), changes={"data.roots": [str(root)], "grid.size": size}
        )
        for size in (1, 2)
    ]
    return compare(region, *folders)


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory, croatia: Region) -> Comparison:
    """Baseline with three seeds, a better group, a group with few places, and a failed run; an odd folder name."""
    home = tmp_path_factory.mktemp("alice")
    root = home / "photos"
    picture = make_picture(0, 64, 64)
    for uuid in PLACES["uuid"][:90]:
        (root / "images" / uuid).mkdir(parents=True)
        for heading in (0, 90, 180, 270):
            picture.save(root / "images" / uuid / f"{heading}.jpg")

    data, sweep = {"data.roots": [str(root)]}, home / "<b>sweep"
    for seed in range(3):
        write_run(sweep / str(seed), PLACES, make_errors(seed), changes={**data, "seed": seed}, val_km=20.0)
    write_run(sweep / "3", PLACES, 0.6 * make_errors(3), changes={**data, "grid.size": 30}, fit_s=100.0)
    write_run(sweep / "4", PLACES[:10], make_errors(4)[:10], changes={**data, "grid.size": 15})
    failed = write_run(sweep / "5", PLACES, make_errors(5), state="failed")
    (failed / "status.json").write_text('{"state": "failed", "error": "MissingFileError: /home/alice/x is gone"}')
    return compare(croatia, sweep)


class PageParser(HTMLParser):
    """Collects text and images of a page, and checks that every element is closed."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.text, self.open, self.images = "", [], []
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        if tag == "img":
            self.images.append(dict(attrs))
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if self.open and self.open[-1] not in ("style", "script"):
            self.text += f" {data}"


@pytest.fixture(scope="module")
def page(comparison: Comparison) -> str:
    return render_comparison(comparison, find_spread_places(comparison, 4), pictures=True)


def test_page_has_all_sections_and_pictures(comparison: Comparison, page: str):
    parser = PageParser(page)
    text = " ".join(parser.text.split())
    for part in (
        "Comparison of 3 configurations",
        "A: significantly better",
        "not compared",
        "10 shared places, 20 needed",
        "3 seeds",
        "failed MissingFileError",
        "Results",
        "What differs",
        "Where the errors are",
        "Where they differ most",
        "How to read this",
    ):
        assert part in text

    # The name is shown as text, not as an element.
    assert "<b>sweep/5" in text

    # Intervals, differences, three curves, a scale, three maps, then a map and four views of each place.
    with_photos = sum(place.photos is not None for place in find_spread_places(comparison, 4))
    assert with_photos >= 3
    assert len(parser.images) == 2 + 3 + 1 + 3 + 4 + 4 * with_photos
    assert all(image["alt"] and image["src"].startswith("data:image/") for image in parser.images)


def test_page_names_no_folder_of_the_user(comparison: Comparison, page: str):
    text = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert str(comparison.entries[0].group.runs[0].folder.parents[1]) not in text
    assert "alice" not in text
    assert not re.search(r"https?://", text)


def test_page_without_pictures_has_no_charts(comparison: Comparison):
    page = render_comparison(comparison, [], pictures=False)
    assert PageParser(page).images == []
    assert "Where the errors are" not in page
    assert len(page) < 60_000


def test_places_that_differ_most_come_first_with_their_views(comparison: Comparison):
    ranks = {entry.label: rank for rank, entry in enumerate(comparison.entries)}
    base, better, few = (ranks[f"grid.size={size}"] for size in (60, 30, 15))
    errors = [dict(zip(entry.group.uuid, entry.group.error_km, strict=True)) for entry in comparison.entries]
    ranges = {uuid: abs(errors[base][uuid] - errors[better][uuid]) for uuid in PLACES["uuid"]}

    places = find_spread_places(comparison, 5)
    assert [place.uuid for place in places] == sorted(ranges, key=ranges.get, reverse=True)[:5]
    for place in places:
        # The group with ten places does not count, and lacks most of the places.
        expected = [errors[rank].get(place.uuid, np.nan) for rank in (base, better, few)]
        np.testing.assert_allclose(place.errors_km[[base, better, few]], expected)
        distance_km = haversine_km(place.predicted_deg[[better]], place.coords_deg[None])
        np.testing.assert_allclose(distance_km, place.errors_km[better], rtol=1e-4)

        has_photos = place.uuid in PLACES["uuid"][:90].tolist()
        sizes = [Image.open(io.BytesIO(photo.jpeg)).size for photo in place.photos or []]
        assert sizes == [(160, 160)] * (4 if has_photos else 0)
    assert find_spread_places(comparison, 0) == []


def test_views_that_are_gone_are_reported(tmp_path: Path, croatia: Region):
    comparison = compare_two(tmp_path, croatia, PLACES, tmp_path / "gone")
    places = find_spread_places(comparison, 3)
    assert [place.photos for place in places] == [None] * 3
    text = PageParser(render_comparison(comparison, places, pictures=False)).text
    assert "The views of 3 places are no longer where the runs' data were" in text
    assert f"{places[0].coords_deg[0]:.5f}° N" in text


def test_an_id_never_leads_out_of_its_root(tmp_path: Path, croatia: Region):
    (tmp_path / "root" / "images").mkdir(parents=True)
    (tmp_path / "secret").mkdir()
    make_picture(0, 64, 64).save(tmp_path / "secret" / "0.jpg")
    odd = PLACES.assign(uuid=[f"../../secret{'/' * number}" for number in range(100)])
    comparison = compare_two(tmp_path, croatia, odd, tmp_path / "root")
    places = find_spread_places(comparison, 100)
    assert len(places) == 100
    assert all(place.photos is None for place in places)


def test_one_run_has_a_page(tmp_path: Path, croatia: Region):
    comparison = compare(croatia, write_run(tmp_path / "one", PLACES, make_errors(0)))
    text = PageParser(render_comparison(comparison, find_spread_places(comparison, 3), pictures=True)).text
    assert "There is nothing to compare it with" in text
    assert "Against the baseline" not in text


def test_table_beside_the_page_reads_back(comparison: Comparison, tmp_path: Path):
    file = write_comparison(comparison, [], tmp_path / "c.html", pictures=False)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["c.csv", "c.html"]
    assert file == tmp_path / "c.csv"
    table, expected = pd.read_csv(file), make_table(comparison)
    assert list(table) == list(expected)
    assert table["verdict"].tolist() == expected["verdict"].tolist()
    np.testing.assert_allclose(
        table["difference_km_mean"], expected["difference_km_mean"].astype(float), atol=1e-6
    )


def test_terminal_output_fits_80_columns(comparison: Comparison, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    print_comparison(comparison)
    text = capsys.readouterr().out
    table = [line for line in text.splitlines() if line.startswith(("┏", "┃", "│"))]
    assert 0 < max(map(len, table)) <= 80
    for entry in comparison.entries:
        assert DistanceFormatter(comparison).km(entry.mean.value) in text
        assert entry.label in text
    assert "not used: <b>sweep/5 (failed): MissingFileError: /home/alice/x is gone" in text


def test_formats_of_numbers(comparison: Comparison):
    numbers = DistanceFormatter(comparison)
    assert numbers.km(12.345) == "12.3"
    assert (numbers.signed(-3.14), numbers.signed(3.14)) == ("−3.1", "+3.1")
    assert numbers.limits(Interval(1.0, -2.0, 3.0), signed=True) == "−2.0 to +3.0"
    assert numbers.interval(Interval(1.0, 0.5, 3.0)) == "1.0 (0.5 to 3.0)"
    assert (numbers.interval(Interval(1.0)), numbers.limits(None)) == ("1.0", "")
    assert [format_p_value(p) for p in (None, 0.0001, 0.0123, 0.5)] == ["–", "<0.001", "0.012", "0.50"]
    assert [format_seconds(s) for s in (0.44, 42, 200, 7500)] == ["0.4 s", "42 s", "3 min 20 s", "2 h 5 min"]


def test_pareto_front():
    times, errors = np.array([3.0, 1.0, 2.0, 4.0, 2.0]), np.array([5.0, 9.0, 7.0, 6.0, 8.0])
    assert plots.find_pareto_front(times, errors) == [1, 2, 0]


def test_selected_entries_include_the_baseline(comparison: Comparison):
    base = comparison.entries[comparison.baseline]
    assert plots.select_entries(comparison, 2) == [
        comparison.entries[0],
        comparison.entries[max(1, comparison.baseline)],
    ]
    assert plots.select_entries(comparison, 1) == [base]


@needs_browser
def test_browser_reports_no_fault_and_no_request(page: str, tmp_path: Path):
    file = tmp_path / "compare.html"
    file.write_text(page)
    with open_page() as (browser_page, log):
        browser_page.goto(file.as_uri())
        assert log.console == []

        # The script makes the buttons.
        assert browser_page.locator("button").count() > 20


@needs_browser
def test_browser_reports_a_page_with_faults(tmp_path: Path):
    file = tmp_path / "bad.html"
    file.write_text('<img src="http://photos.example/x.png"><script>nothing();</script>')
    with pytest.raises(AssertionError, match=r"photos\.example"), open_page() as (browser_page, log):
        browser_page.goto(file.as_uri())
    assert log.outside_requests == ["http://photos.example/x.png"]
    assert len([line for line in log.console if "nothing is not defined" in line]) == 1


def render_body(body: str, script: str) -> str:
    text = '{% extends "base.html" %}{% import "macros.html" as m %}{% block sections %}' + body + "{% endblock %}"
    return render_html(make_html_environment().from_string(text), title="t", scripts=[script])


@needs_browser
def test_headings_sort_by_number_and_word_with_blanks_last(tmp_path: Path):
    rows = """{% call m.table(["name", "far"], sortable=true) %}
      <tr><th scope="row">b</th>{{ m.number("9 km", 9.0) }}</tr>
      <tr><th scope="row">a</th>{{ m.number("10 km", 10.0) }}</tr>
      <tr><th scope="row">c</th>{{ m.number("–", none) }}</tr>{% endcall %}"""
    file = tmp_path / "table.html"
    file.write_text(render_body(rows, read_source("sorting.js")))

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
    text = render_body("<p>x</p>", "document.title = 'ours'")
    file = tmp_path / "x.html"
    file.write_text(text.replace("</body>", "<script>document.title = 'theirs'</script></body>"))
    with open_page() as (browser_page, log):
        browser_page.goto(file.as_uri())
        assert browser_page.title() == "ours"
    assert len(log.console) == 1
