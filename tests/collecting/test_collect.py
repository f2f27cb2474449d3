"""The collect command against a local server: completeness, budgets, kills, and secrecy of keys."""

from __future__ import annotations

import io
import logging
import os
import re
import signal
import subprocess
import sys
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT, command, compose
from omegaconf import OmegaConf
from PIL import Image
from support.photo_files import save_photo
from support.provider_server import (
    FAULTS,
    KEY,
    SECRET,
    THUMBNAIL_SECRET,
    TOKEN,
    ProviderServer,
    make_noise_jpeg,
    make_panorama_jpeg,
)
from support.waiting import wait_until

from geoguesser.collecting.budget import Budget
from geoguesser.collecting.database import Database
from geoguesser.collecting.output_files import get_complete_view_size
from geoguesser.collecting.pipeline.plan_table import record_plan
from geoguesser.collecting.pipeline.status import count_remaining_requests, find_exceeded_budget
from geoguesser.commands.collect import run_collect
from geoguesser.commands.configs import instantiate_node, list_known_keys, to_plain
from geoguesser.data.checks.findings import Findings
from geoguesser.data.places import read_places
from geoguesser.errors import ConfigError, GeoguesserError, MissingFileError, ProviderError, StoreError

KEYS = {"GOOGLE_MAPS_API_KEY": KEY, "GOOGLE_MAPS_SIGNING_SECRET": SECRET, "MAPILLARY_TOKEN": TOKEN}
QUICK = ["pictures=false", "http.backoff_base_s=0.05", "http.timeout_s=0.6", "http.max_attempts=12"]
SOON = tuple(fault for fault in FAULTS if fault != "429 date")  # a date is up to a second away, for all requests
FAST = [f"provider.requests.{kind}.per_second=2000" for kind in ("metadata", "image")]
COLUMNS = ["uuid", "latitude", "longitude", "panorama_id", "date", "copyright", "provider"]


def make_words(server: ProviderServer, out: Path, step: str, *more: str) -> list[str]:
    provider = ["provider.accept_terms=true", f"provider.base_url={server.google}", "budget.money=1000", *FAST]
    return [f"step={step}", f"out={out}", *QUICK, *provider, *more]


def plan(out: Path, count: int, seed: int = 0) -> None:
    """Records random points as a plan, without a region and a strategy."""
    rng = np.random.default_rng(seed)
    with Database(out) as database:
        record_plan(database, rng.uniform((43.0, 13.5), (46.0, 19.0), (count, 2)), {"places": count})


def run(*words: str) -> None:
    """Runs the command in this process."""
    run_collect(compose([*QUICK, *words], "collect"))


def collect(server: ProviderServer, out: Path, step: str, *more: str) -> None:
    """Runs a step in this process, with the imitated Google."""
    run(*make_words(server, out, step, *more))


def start(words: list[str], server: ProviderServer, after: int) -> subprocess.Popen:
    """Starts a process, and waits until the server has got a number of further requests."""
    aim = len(server.log) + after
    process = subprocess.Popen(
        [sys.executable, "-m", "geoguesser.collect", *words], cwd=ROOT, env=os.environ | KEYS,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, start_new_session=True,
    )  # fmt: skip
    wait_until(lambda: len(server.log) >= aim or process.poll() is not None, timeout_s=300, interval_s=0.002)
    assert process.poll() is None, process.stdout.read()
    return process


def find_complete_views(out: Path) -> set[str]:
    """Returns all complete views on disk as uuid/heading."""
    paths = [path for path in out.glob("images/*/*.jpg") if get_complete_view_size(path)]
    return {f"{path.parent.name}/{path.stem}" for path in paths}


def check_complete(out: Path, server: ProviderServer) -> pd.DataFrame:
    """Checks that all places of the server are in data.csv, at their positions and with complete views."""
    table = pd.read_csv(out / "data.csv")
    assert list(table) == COLUMNS
    with Database(out) as database:
        points = database.query("SELECT latitude, longitude, state FROM points")
        ids = dict(database.query("SELECT uuid, panorama_id FROM places"))
    assert {state for *_, state in points} <= {"found", "empty"}
    near_points = [panorama for lat, lon, _ in points if (panorama := server.panorama(lat, lon, 50.0))]
    good = {
        name: (lat, lon)
        for name, lat, lon in near_points
        if server.share("gone", name) >= server.gone_share and server.share("grey", name) >= server.grey_share
    }
    assert set(table["panorama_id"]) == set(good)
    for row in table.itertuples():
        assert (row.latitude, row.longitude) == pytest.approx(good[row.panorama_id], abs=1e-7)
    expected = {f"{uuid}/{heading}" for uuid in table["uuid"] for heading in (0, 90, 180, 270)}
    assert expected <= find_complete_views(out)
    for uuid in table["uuid"][:20]:
        for heading in (0, 90, 180, 270):
            name = f"{ids[uuid]}/{heading}".encode()  # the server writes it into each view
            assert name in (out / "images" / uuid / f"{heading}.jpg").read_bytes()[:100]
    assert not list(out.rglob("*.part"))
    return table


def check_secrecy(folder: Path, outputs: list[str], secrets: tuple[str, ...]) -> None:
    """Checks that no output and no file below a folder holds a secret."""
    files = [path.read_bytes().decode("latin-1") for path in folder.rglob("*") if path.is_file()]
    for secret in secrets:
        assert not [text for text in (*outputs, *files) if secret in text]


def make_mapillary_words(server: ProviderServer) -> list[str]:
    return ["provider=mapillary", f"provider.base_url={server.mapillary}", "provider.image_hosts=[127.0.0.1]"]


@pytest.fixture
def square(tmp_path: Path) -> list[str]:
    """Settings of a region, a square of one degree."""
    ring = "[[15, 45], [16, 45], [16, 46], [15, 46], [15, 45]]"
    (tmp_path / "land.geojson").write_text(f'{{"type": "Polygon", "coordinates": [{ring}]}}')
    return ["region=custom", f"region.boundary={tmp_path}/land.geojson"]


@pytest.fixture
def keys(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in KEYS.items():
        monkeypatch.setenv(name, value)


@pytest.mark.usefixtures("keys")
def test_all_steps_from_the_command_line_and_no_key_in_anything_that_they_leave(tmp_path: Path, croatia, caplog):
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"
    with ProviderServer(signed=True, fault_share=0.15, slow_s=2.0, retry_after_s=0) as server:
        given = make_words(server, out, "all", "places=40", "hydra.job_logging.root.level=DEBUG")
        wrong = command("geoguesser.collect", *given, env=KEYS | {"GOOGLE_MAPS_API_KEY": f"{KEY}x"})
        asked = len(server.log)
        first = command("geoguesser.collect", *given, env=KEYS)
        sent = len(server.log)
        run(*given)
        assert len(server.log) == sent
    assert (wrong.returncode, first.returncode) == (1, 0)
    assert wrong.stderr.startswith("error: google refuses the request (REQUEST_DENIED)")
    assert asked <= 16  # requests in flight
    table = check_complete(out, server)
    outputs = [wrong.stdout, wrong.stderr, first.stdout, first.stderr, caplog.text]
    outputs.append(OmegaConf.to_yaml(compose(given, "collect")))
    check_secrecy(tmp_path, outputs, (KEY, SECRET, "signature="))
    assert "Traceback" not in "".join(outputs)
    assert re.search(r"image +160 +7 +1\.12", wrong.stdout)  # before anything was asked
    assert wrong.stdout.index("budget left: 25,000 requests today, 1,000.00 USD") > wrong.stdout.index("1.12")
    assert f"{out}/data.csv: {len(table)} places" in first.stdout
    assert "step=download: no requests are left" in caplog.text
    read = read_places([str(out)], croatia, Findings())
    assert len(read) == len(table) >= 25
    assert read["panorama_id"].is_unique


@pytest.mark.usefixtures("keys")
def test_mapillary_from_the_command_line_and_no_token_in_anything(tmp_path: Path, caplog):
    caplog.set_level(logging.DEBUG)
    plan(tmp_path / "out", 12)
    with ProviderServer(fault_share=0.1, slow_s=2.0, retry_after_s=0, faults=SOON) as server:
        provider = [*make_mapillary_words(server), "provider.size=64"]
        provider += [f"out={tmp_path}/out", *QUICK, "hydra.job_logging.root.level=DEBUG"]
        run("step=metadata", *provider)
        done = command("geoguesser.collect", "step=download", *provider)
    assert done.returncode == 0, done.stderr
    table = pd.read_csv(tmp_path / "out" / "data.csv")
    assert len(table) >= 8
    assert set(table["copyright"]) == {"someone on Mapillary, CC BY-SA 4.0"}
    assert len(find_complete_views(tmp_path / "out")) == 4 * len(table)
    secrets = (TOKEN, TOKEN.split("|")[2], THUMBNAIL_SECRET, "OAuth")
    check_secrecy(tmp_path, [done.stdout, done.stderr, caplog.text], secrets)


def count_reserved_requests(out: Path) -> int:
    with Database(out) as database:
        return int(database.query("SELECT sum(requests) FROM spent")[0][0])


def test_a_kill_repeats_at_most_the_requests_that_were_in_flight(tmp_path: Path, keys):
    plan(tmp_path, 60)
    in_flight, at_kills = 4, []
    faults = tuple(fault for fault in SOON if fault != "slow")  # an answer after the timeout is requested again
    with ProviderServer(fault_share=0.1, retry_after_s=0, faults=faults, delay_s=0.05) as server:
        for step, afters in (("metadata", (20,)), ("download", (40, 80))):
            words = make_words(server, tmp_path, step, "http.timeout_s=10", f"http.concurrency={in_flight}")
            for after in afters:
                process = start(words, server, after)
                os.killpg(process.pid, signal.SIGKILL)
                process.communicate(timeout=10)
                at_kills.append((len(server.log), find_complete_views(tmp_path)))
            run(*words)
            repeated = sum(
                count - 1 for count in server.answered("image" if step == "download" else step).values()
            )
            assert repeated <= len(afters) * in_flight

    # Some requests are reserved before a kill, and not sent.
    assert len(server.log) <= count_reserved_requests(tmp_path) <= len(server.log) + 3 * in_flight
    check_complete(tmp_path, server)

    # No view that was complete on disk at a kill is requested again.
    assert len(at_kills[-1][1]) >= 60
    with Database(tmp_path) as database:
        uuids = dict(database.query("SELECT panorama_id, uuid FROM places"))
    for entries, views in at_kills:
        later = [entry.item.split("/") for entry in server.log[entries:] if entry.kind == "image"]
        assert views.isdisjoint(f"{uuids[name]}/{heading}" for name, heading in later)


def test_a_view_that_is_on_disk_but_not_recorded_is_not_asked_for(tmp_path: Path, keys, caplog):
    plan(tmp_path, 10)
    caplog.set_level(logging.INFO)
    with ProviderServer(grey_share=0.0, gone_share=0.0) as server:
        for step in ("metadata", "download"):
            collect(server, tmp_path, step)
        sent = server.counts()["image"]
        with Database(tmp_path) as database:
            database.write(lambda db: db.execute("DELETE FROM views"))
            database.write(lambda db: db.execute("UPDATE places SET state = 'wanted' WHERE state = 'done'"))
        half = sorted(tmp_path.glob("images/*/90.jpg"))[0]
        half.write_bytes(half.read_bytes()[:-500])
        collect(server, tmp_path, "download")
        assert server.counts()["image"] == sent + 1  # the truncated view
        table = check_complete(tmp_path, server)
        sorted(tmp_path.glob("images/*/0.jpg"))[0].unlink()  # somebody removes a recorded one
        collect(server, tmp_path, "download")
        assert server.counts()["image"] == sent + 2
    assert "1 view missing or changed on disk, to be downloaded again" in caplog.text
    assert len(check_complete(tmp_path, server)) == len(table)


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_cleanly_and_it_goes_on(tmp_path: Path, keys, stop: signal.Signals):
    plan(tmp_path, 60)
    with ProviderServer(delay_s=0.02) as server:
        collect(server, tmp_path, "metadata")
        process = start(make_words(server, tmp_path, "download", "http.concurrency=4"), server, after=40)
        sent = len(server.log)
        process.send_signal(stop)
        output = process.communicate(timeout=30)[0]
        assert process.returncode == 130, output
        assert "stopped; run the same command again to continue" in output
        assert "Traceback" not in output

        # Requests in flight are finished and written, and their places are in the table.
        assert len(server.log) <= sent + 8
        assert count_reserved_requests(tmp_path) == len(server.log)
        assert len(find_complete_views(tmp_path)) == server.answered("image").total()
        table = pd.read_csv(tmp_path / "data.csv")
        assert 5 <= len(table) < 40
        assert {f"{uuid}/0" for uuid in table["uuid"]} <= find_complete_views(tmp_path)

        collect(server, tmp_path, "download")
    check_complete(tmp_path, server)
    assert max(server.answered("image").values()) == 1
    assert count_reserved_requests(tmp_path) == len(server.log)


def test_a_second_signal_ends_at_once(tmp_path: Path, keys):
    plan(tmp_path, 10)
    with ProviderServer(delay_s=5.0) as server:
        process = start(make_words(server, tmp_path, "metadata", "http.timeout_s=20"), server, after=1)
        process.send_signal(signal.SIGTERM)
        assert any("stopping: requests in flight" in line for line in process.stdout)
        process.send_signal(signal.SIGTERM)
        process.communicate(timeout=30)
    assert process.returncode == -signal.SIGTERM


def test_budgets_end_a_step_and_more_lets_it_go_on(tmp_path: Path, keys, caplog):
    caplog.set_level(logging.INFO)
    plan(tmp_path, 30)
    with ProviderServer(fault_share=0.1, slow_s=2.0, retry_after_s=0, faults=SOON) as server:
        step = partial(collect, server, tmp_path)
        step("metadata", "budget.requests_per_day=12")
        step("metadata", "budget.requests_per_day=12")  # the day is not over
        assert len(server.log) == 12
        assert "budget.requests_per_day=12 is used up: the next metadata request would exceed it." in caplog.text
        step("metadata")
        for money in ("0.0", "0.006"):
            with pytest.raises(ConfigError, match=rf"^budget\.money allows none of these requests, got {money}\."):
                step("download", f"budget.money={money}")
        caplog.clear()
        step("download", "budget.money=0.1")
        assert server.counts()["image"] == 14  # of 7 thousandths each
        assert server.cost() <= 0.1
        assert "budget.money=0.1 does not cover this" in caplog.text
        step("download", "budget.requests=70")
        assert len(server.log) == 70
        step("download")
    check_complete(tmp_path, server)


@pytest.mark.parametrize(
    ("budget", "exceeded"),
    [
        (("budget.requests_per_day=24",), "budget.requests_per_day=24"),
        (("budget.requests_per_day=25",), ""),
        (("budget.money_per_day=0.139",), "budget.money_per_day=0.139"),
        (("budget.requests=24", "budget.money=0"), "budget.requests=24"),
    ],
)
def test_a_budget_that_does_not_cover_all_is_named_before(
    tmp_path: Path, caplog, budget: tuple[str, ...], exceeded: str
):
    """Five points and 20 images of 0.7 cents."""
    plan(tmp_path, 5)
    given = [f"out={tmp_path}", "budget.money=null", *budget]
    with Database(tmp_path) as database:
        config = to_plain(compose(given, "collect"), list_known_keys("collect"))
        provider = instantiate_node(config["provider"], "provider")
        requests = count_remaining_requests(database, provider, points=True, places=True)
        assert find_exceeded_budget(database, provider, Budget.from_config(config["budget"]), requests) == exceeded


def test_filters_keep_money_together(tmp_path: Path, keys, caplog):
    caplog.set_level(logging.INFO)
    plan(tmp_path, 60)
    with ProviderServer(twice_share=0.5, grey_share=0.0, gone_share=0.0) as server:
        step = partial(collect, server, tmp_path)
        step("metadata")
        words = ["filters.from=2015-01", "filters.copyright_allow=['^© Google$']", "filters.min_distance_m=1"]
        step("download", *words)
        table = pd.read_csv(tmp_path / "data.csv")
        assert 5 < len(table) < 40
        assert server.counts()["image"] == 4 * len(table)
        assert table["date"].min() >= "2015-01"
        assert set(table["copyright"]) == {"© Google"}
        for word in ("same_panorama", "too_old", "copyright", "no_panorama"):
            assert f" {word} (" in caplog.text
        step("download")  # without filters
    assert len(check_complete(tmp_path, server)) > len(table)


def check_refused(kind: type[GeoguesserError], message: str, *words: str) -> None:
    with pytest.raises(kind, match=message):
        run(*words)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["step=fetch"], "^step must be one of plan, metadata, download, all, photos, cut"),
        (["step=metadata"], r"^provider=google .*Google's terms"),
        (["step=plan", "http.max_attempts=0"], r"^http\.max_attempts must be"),
        (["step=plan", "strategy.near=5"], r"^strategy\.near must be the path of a file, or null, got 5"),
        (["step=plan", f"provider.key_file={KEY}"], r"^provider\.key_file looks like a key, and is not"),
        (["step=plan", "out="], "^out must name a folder, got ''"),
        (["step=photos"], r"^photos\.folder must name a folder for step=photos"),
    ],
)
def test_values_are_refused_before_anything_is_asked(tmp_path: Path, keys, words: list[str], message: str):
    check_refused(ConfigError, message, f"out={tmp_path}", *words)


def test_folders_that_do_not_fit_are_refused_before_anything_is_asked(tmp_path: Path, monkeypatch, keys):
    words = [f"out={tmp_path}", "provider.accept_terms=true"]
    check_refused(MissingFileError, "holds no plan yet. Make one first: step=plan", "step=metadata", *words)
    plan(tmp_path, 5)
    check_refused(ConfigError, "holds a plan made with places=5", "step=plan", *words)
    with Database(tmp_path):
        check_refused(StoreError, r"is in use by another process \(number", "step=metadata", *words)
    monkeypatch.delenv("GOOGLE_MAPS_API_KEY")
    check_refused(ConfigError, r"^provider\.key is missing: the environment variable", "step=all", *words)


@pytest.mark.parametrize("value", [KEY, TOKEN])
def test_a_key_on_the_command_line_is_not_repeated(value: str):
    done = command("geoguesser.collect", "out=a", f"provider.key={value}")
    assert done.returncode == 1
    assert done.stderr.startswith("error: the command line[1] looks like a key, and is not shown.")
    assert value not in done.stdout + done.stderr


def test_a_folder_holds_views_of_one_kind(tmp_path: Path, keys):
    plan(tmp_path, 3)
    with ProviderServer() as server:
        collect(server, tmp_path, "metadata")
        with pytest.raises(ConfigError, match=r"was collected with provider\.size=640, got 320\. Give the same"):
            collect(server, tmp_path, "download", "provider.size=320")
    words = ["step=metadata", f"out={tmp_path}", "provider=mapillary"]
    check_refused(ConfigError, "was collected with provider='google', got 'mapil", *words)


def test_a_provider_that_answered_nothing_binds_a_folder_to_nothing(tmp_path: Path, keys, monkeypatch):
    plan(tmp_path, 3)
    monkeypatch.setenv("GOOGLE_MAPS_API_KEY", f"{KEY}x")
    with ProviderServer(empty_share=0.0) as server:
        with pytest.raises(ProviderError, match="REQUEST_DENIED"):
            collect(server, tmp_path, "metadata")
        for step in ("metadata", "download"):
            run(*make_mapillary_words(server), f"step={step}", f"out={tmp_path}")
    assert set(pd.read_csv(tmp_path / "data.csv")["provider"]) == {"mapillary"}


def test_a_table_of_another_dataset_is_never_written_over(tmp_path: Path, keys):
    mine = b"uuid,latitude,longitude\na,45.0,16.0\n"
    (tmp_path / "data.csv").write_bytes(mine)
    for step in ("plan", "metadata", "download", "all", "photos"):
        words = [f"step={step}", f"out={tmp_path}", f"photos.folder={tmp_path}"]
        check_refused(StoreError, r"data\.csv was not written by this command", *words)
    assert (tmp_path / "data.csv").read_bytes() == mine
    assert [path.name for path in tmp_path.iterdir()] == ["data.csv"]


def test_photos_do_not_go_among_places_that_a_provider_is_asked_for(tmp_path: Path):
    plan(tmp_path / "out", 3)
    given = ["step=photos", f"out={tmp_path}/out", f"photos.folder={tmp_path}"]
    check_refused(StoreError, r"holds places that were downloaded from a provider \(journal\.sqlite\)", *given)


def test_the_money_that_is_named_as_enough_is_enough(tmp_path: Path, keys):
    """58 places: 232 images of 0.7 cents are 1.624 USD."""
    plan(tmp_path, 58)
    with ProviderServer(empty_share=0.0, twice_share=0.0, grey_share=0.0, gone_share=0.0) as server:
        collect(server, tmp_path, "metadata")
        with pytest.raises(ConfigError, match=r"All of them need budget\.money=1\.63 \(USD") as caught:
            collect(server, tmp_path, "download", "budget.money=0")
        money = re.search(r"budget\.money=[\d.]*\d", str(caught.value).partition("need")[2])
        assert money is not None
        collect(server, tmp_path, "download", money.group())
    assert len(pd.read_csv(tmp_path / "data.csv")) == 58


def test_a_download_before_any_point_was_asked_for_says_so(tmp_path: Path, keys, caplog):
    plan(tmp_path, 3)
    with ProviderServer() as server:
        collect(server, tmp_path, "download")
    assert server.log == []
    assert "3 points without metadata: run step=metadata first" in caplog.text


def test_a_plan_whose_table_was_lost_gets_it_back(tmp_path: Path, square):
    given = ["step=plan", f"out={tmp_path}/out", "places=5", *square]
    run(*given)
    whole = (tmp_path / "out" / "plan.csv").read_bytes()
    (tmp_path / "out" / "plan.csv").unlink()
    run(*given)
    assert (tmp_path / "out" / "plan.csv").read_bytes() == whole


def test_a_missing_aiohttp_names_the_extra(tmp_path: Path, keys, monkeypatch):
    plan(tmp_path, 3)
    monkeypatch.setitem(sys.modules, "aiohttp", None)
    words = ["step=metadata", f"out={tmp_path}", "provider.accept_terms=true"]
    check_refused(ProviderError, r"pip install 'geoguesser\[collect\]'", *words)


def test_importing_the_entry_point_is_quick():
    code = "import sys, geoguesser.collect; print([m for m in ('torch', 'aiohttp', 'pandas') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_more_places_are_added_to_a_plan_and_nothing_is_asked_twice(tmp_path: Path, keys, square):
    with ProviderServer(grey_share=0.0, gone_share=0.0) as server:
        for count in (12, 20, 20):
            collect(server, tmp_path / "out", "all", f"places={count}", *square)
    assert server.counts()["metadata"] == 20
    assert max(server.answered("image").values()) == 1
    check_complete(tmp_path / "out", server)
    assert len(pd.read_csv(tmp_path / "out" / "plan.csv")) == 20


def test_panoramas_and_photos_of_ones_own_become_views_and_nobody_is_asked(tmp_path: Path, caplog):
    caplog.set_level(logging.INFO)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "first.jpg").write_bytes(make_panorama_jpeg(90.0))
    given = ["step=cut", f"out={tmp_path}/cut", f"panoramas.folder={tmp_path}/mine", "panoramas.size=64"]
    run(*given, "panoramas.compass_deg=90")
    assert len(list((tmp_path / "cut").rglob("*.jpg"))) == 4
    assert re.search(r"^.*cut +1$", caplog.text, re.MULTILINE)
    north = Image.open(next((tmp_path / "cut").rglob("0.jpg"))).convert("RGB")
    assert north.getpixel((32, 12)) == pytest.approx((220, 30, 30), abs=12)
    picture = Image.open(io.BytesIO(make_noise_jpeg("photo")))
    for heading in (0, 90, 180, 270):
        save_photo(tmp_path / "photos" / f"{heading}.jpg", picture, position=(45.5, 16.25), direction=heading)
    caplog.clear()
    given = ["step=photos", f"out={tmp_path}/places", f"photos.folder={tmp_path}/photos", "photos.min_views=4"]
    run(*given)
    assert re.search(r"^.*places +1$", caplog.text, re.MULTILINE)
    assert pd.read_csv(tmp_path / "places" / "data.csv")["latitude"].tolist() == pytest.approx([45.5], abs=1e-6)
