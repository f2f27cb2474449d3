"""Configs and overrides of a received run folder are data: nothing in them runs, is imported or is resolved."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from geoguesser.commands.arguments import expand_resume
from geoguesser.commands.recorded_config import build_recorded, read_config
from geoguesser.commands.recorded_overrides import read_overrides
from geoguesser.data.sources.base import source_from_config
from geoguesser.errors import ConfigError, DataError, GeoguesserError
from geoguesser.geo.region import Region
from geoguesser.system.received_files import MAX_DEPTH, MAX_YAML_BYTES, read_json, read_yaml

CROATIA = {"_target_": "geoguesser.geo.region.country", "code": "HRV", "crs": "EPSG:3765"}
REFUSED = [
    "--experimental-rerun=planted.pkl",
    "-m",
    "hydra.run.dir=elsewhere",
    "hydra/job_logging=planted",
    "hydra={run: {dir: elsewhere}}",
    "+hydra.callbacks.planted={_target_: planted.boom}",
    "head={_target_: pandas.read_pickle, filepath_or_buffer: planted.pkl}",
    "head._target_=planted.boom",
    "+head.fit={_target_: planted.boom}",
    "+callbacks.planted={deep: {_target_: planted.boom}}",
    "+callbacks.planted={a.b._target_: planted.boom}",
    "+logger._partial_=true",
    "+logger._args_=[1]",
    "name=${oc.env:HOME}",
    "name='\\${oc.env:HOME}'",
    "data.roots=[a,'${oc.env:HOME}']",
    "+data={roots: ['${job_name:}']}",
    "head=../../planted",
    "head=/tmp/planted",
    "callbacks=[default,../planted]",
    "head@planted=classification",
    "planted=1",
    "+planted.key=1",
    "~planted",
    "seed=1,2",
    "seed=choice(1,2)",
    "seed=range(3)",
    "backbone.name=hf-hub:planted/model",
    "backbone={name: 'local-dir:planted'}",
    "+trainer.default_root_dir=elsewhere",
    "+trainer={default_root_dir: elsewhere}",
    "seed=" + 10_000 * "1",
    "seed=" + 400 * "[" + 400 * "]",
    "not an override",
    "",
]
APPLIED = [
    "data=places",
    "data.roots=['a folder','/home/alice/photos']",
    "grid.size=60",
    "+trainer.max_time=00:08:00:00",
    "~callbacks.early_stopping",
    "callbacks=[default,ema]",
    "name='a, b = c'",
    "+optimizer.weight_decay=1e-4",
    "trainer={max_epochs: 3, precision: bf16-mixed}",
    "experiment=null",
    "loss.weights=[1.0,2]",
    "init_from=../other/best.ckpt",
]


@pytest.fixture
def planted(tmp_path: Path, monkeypatch) -> Path:
    """Marker that appears if the module `planted`, which can be imported, is imported."""
    marker = tmp_path / "marker"
    (tmp_path / "planted.py").write_text(
        f"open({str(marker)!r}, 'w').close()\n"
        "boom = WandbRunLogger = WandbRecord = country = lambda *args, **kwargs: None\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    yield marker
    sys.modules.pop("planted", None)
    assert not marker.exists()


def write_overrides(folder: Path, words: list[str]) -> Path:
    import yaml

    file = folder / "overrides.yaml"
    file.write_text(yaml.safe_dump(words))
    return file


@pytest.mark.parametrize("word", REFUSED)
def test_a_recorded_override_that_is_no_data_is_refused_by_name(tmp_path: Path, planted: Path, word: str):
    file = write_overrides(tmp_path, ["seed=3", word])
    with pytest.raises(ConfigError) as caught:
        read_overrides(file, [])
    assert str(file) in str(caught.value)
    assert word[:100] in str(caught.value).replace("\\\\", "\\")


@pytest.mark.parametrize("word", APPLIED)
def test_choices_and_plain_values_are_applied(tmp_path: Path, word: str):
    assert read_overrides(write_overrides(tmp_path, [word]), []) == [word]


@pytest.mark.parametrize(
    "word",
    ["logger.mode=online", "logger.entity=attacker", "+logger={mode: online}", "extensions=[planted]",
     "logger.project=p", "logger.capture_code=true", "+logger.api_key=(secret)"],
)  # fmt: skip
def test_what_runs_code_or_sends_data_is_only_shown(tmp_path: Path, planted: Path, capsys, word: str):
    file = write_overrides(tmp_path, [word, "seed=3"])
    assert read_overrides(file, []) == ["seed=3"]
    assert f"note: {word!r}" in capsys.readouterr().err


def test_an_override_that_the_command_line_repeats_is_the_users_own(tmp_path: Path):
    word = "head._target_=my_heads.Head.fit"
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "last.ckpt").touch()
    write_overrides(tmp_path, ["seed=3", word])
    arguments = expand_resume([f"resume={tmp_path}", word])
    assert arguments.count(word) == 1
    assert arguments.index("seed=3") < arguments.index(word)


@given(st.text(max_size=60))
def test_any_text_is_applied_unchanged_or_refused(text: str):
    import tempfile

    with tempfile.TemporaryDirectory() as folder:
        file = write_overrides(Path(folder), [text])
        try:
            words = read_overrides(file, [])
        except GeoguesserError:
            return
        assert all("_target_" not in word and "${" not in word and not word.startswith("-") for word in words)


@pytest.mark.parametrize(
    "content", [f"[{','.join(20 * [9_000 * 'x'])}]", "seed: 3", "3", f"[{'a,' * 1001}]", "- &a [1]\n- *a"]
)
def test_overrides_that_are_no_list_of_words_are_refused(tmp_path: Path, content: str):
    file = tmp_path / "overrides.yaml"
    file.write_text(content)
    with pytest.raises(GeoguesserError, match=r"overrides\.yaml"):
        read_overrides(file, [])


@pytest.mark.parametrize(
    "node",
    [
        CROATIA | {"_target_": "planted.country"},
        CROATIA | {"_target_": "os.system"},
        CROATIA | {"_target_": "geoguesser.geo.region.custom.__globals__"},
        CROATIA | {"_target_": "geoguesser.model.heads.classification.ClassificationHead.fit"},
        CROATIA | {"code": {"_target_": "planted.boom"}},
        CROATIA | {"code": [{"_target_": "planted.boom"}]},
        CROATIA | {"_partial_": True},
        CROATIA | {"_args_": ["HRV"]},
        CROATIA | {"crs": "${oc.env:HOME}"},
        CROATIA | {"planted": 1},
        {"code": "HRV"},
        "geoguesser.geo.region.country",
        None,
    ],
)
def test_only_plain_values_of_this_packages_own_targets_are_built(planted: Path, node: Any):
    with pytest.raises(ConfigError, match="region of the run's config"):
        build_recorded(node, "region")


def test_the_targets_of_this_package_and_of_named_extensions_are_built(monkeypatch):
    from types import ModuleType

    region = build_recorded(CROATIA, "region")
    assert isinstance(region, Region)

    module = ModuleType("my_package.regions")
    module.make = lambda name: name
    monkeypatch.setitem(sys.modules, "my_package.regions", module)
    node = {"_target_": "my_package.regions.make", "name": "island"}
    assert build_recorded(node, "region", ["my_package"]) == "island"
    for extensions in ([], ["my_pack"], ["other"]):
        with pytest.raises(ConfigError, match="_target_"):
            build_recorded(node, "region", extensions)


def test_a_recorded_data_source_is_not_imported(planted: Path):
    assert source_from_config({"data": {"_target_": "planted.boom", "folder": "a"}}).kind is None


def test_interpolations_stay_text_and_python_tags_are_refused(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("PLANTED_TOKEN", "planted-secret")
    file = tmp_path / "config.yaml"
    file.write_text("seed: 3\nname: ${oc.env:PLANTED_TOKEN}\nlist: ['${job_name:}']\n")
    assert read_config(file) == {"seed": 3, "name": "${oc.env:PLANTED_TOKEN}", "list": ["${job_name:}"]}

    for tag in ("!!python/object/apply:os.system ['true']", "!!python/name:os.system", "!!python/object:int {}"):
        file.write_text(f"seed: {tag}\n")
        with pytest.raises(DataError, match=r"config\.yaml must be YAML"):
            read_yaml(file)


@pytest.mark.parametrize(
    "text",
    [
        "".join(f"a{level}: &a{level} [{','.join(9 * [f'*a{level - 1}'])}]\n" for level in range(1, 10))
        .replace("[*a0,*a0,*a0,*a0,*a0,*a0,*a0,*a0,*a0]", "[x]"),
        "a: &a [*a]",
        "[" * (MAX_DEPTH + 1) + "]" * (MAX_DEPTH + 1),
        "[" * 500_000,
        "{a: " * 10_000,
        "a: " + "x" * MAX_YAML_BYTES,
        "\x00",
        "a: \udc80".encode("utf-8", "surrogateescape"),
        "a: [",
    ],
    ids=["bomb", "circle", "deep", "deeper", "maps", "long", "nul", "bytes", "open"],
)  # fmt: skip
def test_yaml_that_is_no_plain_text_of_a_config_is_refused_at_once(tmp_path: Path, text: str | bytes):
    file = tmp_path / "config.yaml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    start = time.process_time()
    with pytest.raises(DataError, match=r"config\.yaml must"):
        read_yaml(file)
    assert time.process_time() - start < 5


@pytest.mark.parametrize("data", [b"[" * 200_000, b"{", b"\xff", b""])
def test_json_that_cannot_be_read_is_refused(tmp_path: Path, data: bytes):
    file = tmp_path / "result.json"
    file.write_bytes(data)
    with pytest.raises(DataError, match=r"result\.json must be JSON"):
        read_json(file)


def test_a_link_shows_no_other_file(tmp_path: Path):
    (tmp_path / "private.json").write_text('{"seed": 3}')
    link = tmp_path / "config.yaml"
    link.symlink_to(tmp_path / "private.json")
    for read in (read_yaml, read_json):
        with pytest.raises(DataError, match="must not be a symbolic link"):
            read(link)
    assert read_json(link, follow_link=True) == {"seed": 3}


def test_pipes_devices_and_large_files_are_refused(tmp_path: Path):
    pipe = tmp_path / "pipe.json"
    os.mkfifo(pipe)
    for file in (pipe, Path("/dev/zero")):
        with pytest.raises(DataError, match="must be a regular file"):
            read_json(file)

    large = tmp_path / "large.json"
    with large.open("wb") as stream:
        stream.truncate(2**30)
    with pytest.raises(DataError, match="must have at most"):
        read_json(large)
