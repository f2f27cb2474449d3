"""Report of a prepared dataset: page, table and terminal of a small root with planted faults."""

from __future__ import annotations

import base64
import io
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from support.html_page import HtmlPage
from support.photo_files import read_pixels
from support.pictures import make_picture
from support.place_roots import HEADINGS, make_places_data, write_csv

from geoguesser.data.checks.findings import FINDING_KINDS, Finding
from geoguesser.data.images import ImageSpec
from geoguesser.data.prepare import prepare_store
from geoguesser.data.sources.places import PlacesDataModule
from geoguesser.data.store.writer import PreparedDataset
from geoguesser.geo.region import country
from geoguesser.reporting.dataset import summary as data_summary
from geoguesser.reporting.dataset.report import DataReport

NASTY = "<b>x&y"
SPECS = [ImageSpec(size=32), ImageSpec(size=48)]
SKIPPED = dict.fromkeys(("broken_image", "missing_images", "bad_row"), "skip")


def write_place(folder: Path, seed: int) -> None:
    """Writes four coloured pictures, different for each seed."""
    folder.mkdir(parents=True)
    for heading in HEADINGS:
        make_picture(4 * seed + heading // 90, 64, 64).save(folder / f"{heading}.jpg")


def write_places(root: Path, rows: list[tuple[Any, ...]]) -> None:
    for seed, row in enumerate(rows):
        write_place(root / "images" / row[0], seed)
    write_csv(root / "data.csv", rows)


def make_data(root: Path, **more: Any) -> PlacesDataModule:
    return make_places_data(root, region=country("HRV", "EPSG:3765"), image=SPECS[0], **more)


def make_rows(count: int) -> list[tuple[Any, ...]]:
    coords = np.random.default_rng(0).uniform((45.2, 16.5), (45.7, 18.5), (count, 2)).round(6)
    return [(f"place-{at:02}", *row) for at, row in enumerate(coords.tolist())]


def write_messy(root: Path) -> None:
    """Writes 30 sound places, one of them with an id of HTML, and places with planted faults."""
    rows = make_rows(30)
    rows[7] = (NASTY, *rows[7][1:])
    write_places(root, rows)
    images = root / "images"
    (images / NASTY / "90.jpg").write_bytes(b"no image")
    (images / "place-08" / "180.jpg").unlink()
    # The same bytes, far away.
    for number in (1, 2):
        shutil.copytree(images / f"place-0{number}", images / f"copy-{number}")
        rows.append((f"copy-{number}", rows[number][1] + 0.1, rows[number][2]))
    # Encoded again, 11 m away.
    shutil.copytree(images / "place-03", images / "again")
    for path in (images / "again").iterdir():
        Image.fromarray(read_pixels(path).astype(np.uint8)).resize((60, 60)).save(path, quality=80)
    rows += [("again", rows[3][1] + 1e-4, rows[3][2]), ("bodiless", 45.4, 17.0), ("nowhere", "north", 17.0)]
    write_place(images / "nowhere", 99)
    write_csv(root / "data.csv", rows)


@pytest.fixture(scope="module")
def messy(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Returns a root with faults, prepared, with its report."""
    root, out = tmp_path_factory.mktemp("messy"), tmp_path_factory.mktemp("store") / "out"
    write_messy(root)
    data = make_data(root, missing_views="mask", on_bad=SKIPPED)
    prepared = prepare_store(data, SPECS, out)
    report = DataReport(prepared, data, out=out)
    path = report.write(out, pictures=True)
    page = HtmlPage(path.read_text(encoding="utf-8"))
    return SimpleNamespace(root=root, out=out, data=data, prepared=prepared, report=report, path=path, page=page)


@pytest.fixture(scope="module")
def clean(tmp_path_factory: pytest.TempPathFactory) -> SimpleNamespace:
    """Returns twenty sound places, checked but not packed, with their report."""
    root = tmp_path_factory.mktemp("clean")
    write_places(root, make_rows(20))
    data = make_data(root)
    data.label = "synthetic demo"
    prepared = prepare_store(data, SPECS[:1], None)
    return SimpleNamespace(root=root, data=data, prepared=prepared, report=DataReport(prepared, data, out=None))


def test_links_lead_to_parts_and_headings_go_down_one_level_at_a_time(messy: SimpleNamespace) -> None:
    ids = [attributes["id"] for _, attributes in messy.page.elements if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [attributes["href"] for attributes in messy.page.all("a")]
    assert len(links) >= 5
    assert {link.removeprefix("#") for link in links} <= set(ids)

    levels = [int(name[1]) for name, _ in messy.page.elements if re.fullmatch(r"h\d", name)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert max(np.diff(levels)) == 1


def test_pictures_are_whole_and_described(messy: SimpleNamespace) -> None:
    formats = []
    for attributes in messy.page.all("img"):
        assert len(attributes["alt"]) > 15
        kind, data = re.fullmatch(r"data:image/(png|jpeg);base64,(.*)", attributes["src"]).groups()
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as image:
            image.load()
            assert image.format == kind.upper()
        formats.append(kind)
    # Map, distances, brightness, sizes of files.
    assert formats.count("png") == 4

    # Six samples and three pairs have four views each; a box says which one is not used.
    boxes = [attributes["aria-label"] for attributes in messy.page.all("div") if attributes.get("role") == "img"]
    assert boxes == [f"no view to the east of place {NASTY}: broken"]
    assert formats.count("jpeg") + len(boxes) == 4 * (6 + 2 * 3)


def test_nasty_id_is_text(messy: SimpleNamespace) -> None:
    assert NASTY not in messy.page.source
    assert "&lt;b&gt;x&amp;y" in messy.page.source
    (item,) = (text for text in messy.page.within("code") if NASTY in text and text.endswith("90.jpg"))
    assert item == f"{messy.root}/images/{NASTY}/90.jpg"


def test_counts_agree(messy: SimpleNamespace) -> None:
    table, found = messy.prepared.table, pd.read_csv(messy.out / "findings.csv")
    splits = table["split"].value_counts()
    # 34 rows have images, of which one has no coordinates and three are copies.
    assert len(table) == 30
    tiles = dict(zip(messy.page.within("li"), messy.page.within("b"), strict=False))
    assert tiles["places"] == "30"
    assert tiles["training"] == str(splits["train"])
    assert tiles["left out"] == "3"
    assert tiles["findings"] == str(len(found))
    rows = messy.page.table("split")
    for name, split in (("training", "train"), ("validation", "val"), ("test", "test")):
        assert rows[name][0].startswith(f"{splits[split]} (")
        counts = messy.prepared.audit[split]["within_m"].values()
        assert [cell.split(" ")[0] for cell in rows[name][2:]] == [str(count) for count in counts]
    assert sum(int(row[0]) for row in messy.page.table("pixels").values()) == messy.prepared.mask.sum() == 118


def test_findings_are_counted_as_in_the_csv(messy: SimpleNamespace) -> None:
    found = pd.read_csv(messy.out / "findings.csv")
    assert list(found.columns) == ["action", "kind", "where", "reason"]
    counts = found.groupby("kind").size()
    expected = dict.fromkeys(("broken_image", "missing_view", "missing_images", "bad_row", "near_duplicate"), 1)
    expected["identical_image"] = 2
    assert counts.to_dict() == expected
    rows = messy.page.table("kind")
    assert len(rows) == len(expected)
    for heading, (action, count) in rows.items():
        kind = next(kind for kind in expected if heading.startswith(kind))
        assert heading == kind + FINDING_KINDS[kind].meaning
        assert int(count) == expected[kind]
        assert action == ("keep: noted" if kind == "missing_view" else "skip: left out")
    listed = [text for text in messy.page.within("code") if str(messy.root) in text]
    assert sorted(listed) == sorted(found["where"])


def test_pairs_are_shown_one_above_the_other(messy: SimpleNamespace) -> None:
    assert sorted(messy.page.within("h3")) == ["identical_image", "identical_image", "near_duplicate"]
    for name in ("copy-1", "copy-2", "again"):
        at = messy.page.texts.index(("code", name))
        assert messy.page.texts[at + 1] == ("div", ", left out")
    assert "The lower one shares 4 images, byte for byte, with the upper one." in messy.page.text
    assert re.search(r"The lower one has 4 views similar to, and is 11 m from, the upper one\.", messy.page.text)


def test_same_input_gives_the_same_bytes_and_leaves_nothing_else(messy: SimpleNamespace, tmp_path: Path) -> None:
    path = messy.report.write(tmp_path / "new" / "folder", pictures=True)
    assert path.read_bytes() == messy.path.read_bytes()
    assert sorted(file.name for file in path.parent.iterdir()) == ["findings.csv", "report.html"]


def test_page_without_pictures(messy: SimpleNamespace, tmp_path: Path) -> None:
    page = HtmlPage(messy.report.write(tmp_path, pictures=False).read_text())
    assert page.all("img") == []
    for heading in ("split", "kind", "pixels"):
        assert page.table(heading) == messy.page.table(heading)


def test_clean_data_have_no_findings(clean: SimpleNamespace, tmp_path: Path) -> None:
    page = HtmlPage(clean.report.write(tmp_path, pictures=True).read_text())
    assert "There are no findings." in page.text
    assert "No two places have the same" in page.text
    assert "checked only" in page.text
    assert page.within("title") == ["Data report: 20 places in Croatia (synthetic demo)"]
    assert (tmp_path / "findings.csv").read_text() == "action,kind,where,reason\n"
    assert "Warning" not in page.text


def test_terminal_has_the_facts_of_the_page(messy: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    messy.report.show()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "Data report: 30 places in Croatia"
    for split, count in messy.prepared.table["split"].value_counts().items():
        assert any(re.match(rf"│ {split} +│ +{count} │", line) for line in lines)
    text = "\n".join(lines)
    assert "Places: 33 read, 30 used, 3 left out. Before that, 2 rows or folders were left out" in text
    assert "(1 bad_row, 1 missing_images)" in text
    assert "Views: 118 used, 2 masked, at 2 places." in text
    assert f"Packed: px32-crop (406 kB), px48-crop (912 kB), in {messy.out}. No place was packed before." in text
    assert "Findings: 7" in lines
    assert "  2 identical_image (skip): the same bytes as another place's image" in lines
    assert f"    {messy.root}/images/{NASTY}/90.jpg is not a complete image (no JPEG, PNG or WebP)" in lines


def test_second_preparation_reports_what_is_reused(
    messy: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    data = make_data(messy.root, missing_views="mask", on_bad=SKIPPED)
    DataReport(prepare_store(data, SPECS, messy.out), data, out=messy.out).show()
    text = capsys.readouterr().out
    assert "All places were packed before; the store is up to date, nothing was written." in text
    assert "30 of 30 places keep their recorded split." in text


def make_report(messy: SimpleNamespace, findings: list[Finding]) -> DataReport:
    data = make_data(messy.root)
    data.findings.record(findings)
    return DataReport(messy.prepared, data, out=messy.out)


def test_long_lists_end_with_a_count_of_the_rest(
    messy: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    findings = [Finding("unusual_mode", f"file-{number}.jpg", "is grey") for number in range(1234)]
    report = make_report(messy, findings)
    page = HtmlPage(report.write(tmp_path, pictures=False).read_text())
    listed = [text for text in page.within("code") if text.startswith("file-")]
    assert listed == [f"file-{number}.jpg" for number in range(50)]
    assert "and 1,184 more, see findings.csv" in page.text
    assert len(pd.read_csv(tmp_path / "findings.csv")) == 1234
    report.show()
    text = capsys.readouterr().out
    assert "file-1.jpg is grey" in text
    assert "file-2.jpg" not in text
    assert "and 1,232 more" in text


def test_terminal_is_not_steered_by_an_id(messy: SimpleNamespace, capsys: pytest.CaptureFixture[str]) -> None:
    make_report(messy, [Finding("unusual_mode", "a\x1b[2Jb", "[bold red]is grey[/]")]).show()
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert "a\N{REPLACEMENT CHARACTER}[2Jb [bold red]is grey[/]" in text


def test_warning_stands_in_terminal_and_page(
    messy: SimpleNamespace, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    sentence = "3 of 4 test places (75%) lie within 50 m of a training place <here>."
    audit = messy.prepared.audit | {"warnings": [sentence]}
    report = DataReport(PreparedDataset(**(vars(messy.prepared) | {"audit": audit})), messy.data, out=messy.out)
    page = HtmlPage(report.write(tmp_path, pictures=False).read_text())
    assert f"Warning: {sentence}" in page.text
    assert page.text.index(sentence) < page.text.index("Views")
    report.show()
    assert f"Warning: {sentence}\n" in capsys.readouterr().out


def test_many_sizes_of_images_are_gathered(messy: SimpleNamespace) -> None:
    facts = messy.prepared.image_stats.take(np.arange(len(messy.prepared.image_stats)))
    facts.views = facts.views.copy()
    facts.views["width"][:5] = np.arange(20).reshape(5, 4) + 100
    mask = np.ones_like(messy.prepared.mask)
    prepared = PreparedDataset(**(vars(messy.prepared) | {"image_stats": facts, "mask": mask}))
    rows = data_summary.make_size_rows(prepared)
    assert rows[0][0] == "64 × 64"
    assert len(rows) == 7
    assert re.fullmatch(r"\d+ others, .* wide, .* high", rows[-1][0])
    assert sum(count for _, count in rows) == mask.size
