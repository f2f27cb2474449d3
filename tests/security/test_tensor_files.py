"""Checkpoints and exported folders from elsewhere run nothing, ask nobody, and take no memory beyond it."""

from __future__ import annotations

import hashlib
import io
import json
import pickle
import resource
import shutil
import subprocess
import sys
import time
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf
from support.toy_locators import make_locator
from torch import nn

import geoguesser
from geoguesser.commands.configs import conf_dir
from geoguesser.commands.export import run_export
from geoguesser.commands.predict import run_predict
from geoguesser.errors import CheckpointError, ConfigError, GeoguesserError, WeightsError
from geoguesser.inference.checkpoint import read_checkpoint, write_checkpoint
from geoguesser.inference.predictor import Predictor
from geoguesser.inference.saved_model import open_predictor, write_model_folder
from geoguesser.model.backbone import TimmBackbone, restore_backbone
from geoguesser.system.tensor_files import limit_allocation, load_npz, map_array
from geoguesser.training.callbacks import BestCheckpoint
from geoguesser.training.transfer import load_initial_weights

V0_1 = Path(__file__).parent.parent / "compat" / "v0_1"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("model") / "model.ckpt"
    make_locator(0).save(path)
    return path


def rewrite(source: Path, target: Path, *, compression: int = zipfile.ZIP_STORED, **changed: bytes) -> Path:
    """Copies an archive of torch with changed entries, by their file name without a suffix."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w", compression) as new:
        for entry in old.infolist():
            data = changed.get(Path(entry.filename).stem, old.read(entry))
            new.writestr(zipfile.ZipInfo(entry.filename), data, compression)
    return target


def read_pickle(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        return archive.read(next(name for name in archive.namelist() if name.endswith("data.pkl")))


def dump(value: Any) -> bytes:
    """Pickles plain values as torch does."""
    return pickle.dumps(value, protocol=2)


OPENERS: dict[str, Callable[[Path], object]] = {
    "load": geoguesser.load,
    "predictor": Predictor.load,
    "resume": read_checkpoint,
    "init_from": lambda path: load_initial_weights(make_locator(0).network, str(path)),
}


def refuse(path: Path, openers: dict[str, Callable[[Path], object]] = OPENERS) -> str:
    for name, read in openers.items():
        with pytest.raises(GeoguesserError) as caught:
            read(path)
        assert str(path) in str(caught.value), name
        assert "\n" not in str(caught.value)
    return str(caught.value)


class Payload:
    """Creates a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> Any:
        return (Path.touch, (self.marker,))


@pytest.mark.parametrize("where", ["root", "record", "optimizer"])
def test_a_pickle_with_code_runs_nothing(checkpoint: Path, tmp_path: Path, where: str) -> None:
    marker = tmp_path / "marker"
    value: Any = {"geoguesser": {"format": 2}, "state_dict": {}, "optimizer_states": []}
    payload = Payload(marker)
    value = payload if where == "root" else value | {where: [payload], "geoguesser": {"format": 2, "x": payload}}
    torch.save(value, tmp_path / "evil.ckpt")
    assert "no plain value" in refuse(tmp_path / "evil.ckpt")
    (tmp_path / "legacy.ckpt").write_bytes(pickle.dumps(payload))
    refuse(tmp_path / "legacy.ckpt")
    with pytest.raises(WeightsError):
        TimmBackbone(name="test_resnet", weights=str(tmp_path / "legacy.ckpt"))
    assert not marker.exists()


def test_a_compressed_archive_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    path = rewrite(checkpoint, tmp_path / "small.ckpt", compression=zipfile.ZIP_DEFLATED)
    assert "without compression" in refuse(path)


def test_a_bomb_of_zeros_takes_no_memory(tmp_path: Path) -> None:
    # 256 MB of zeros, compressed to 260 KB.
    torch.save({"geoguesser": {"format": 2}, "x": torch.zeros(2**18)}, tmp_path / "model.ckpt")
    data = read_pickle(tmp_path / "model.ckpt").replace(pickle.BININT + (2**18).to_bytes(4, "little"),
        pickle.BININT + (2**26).to_bytes(4, "little"))  # fmt: skip
    path = tmp_path / "bomb.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x/data.pkl", data)
        with archive.open("x/data/0", "w", force_zip64=True) as part:
            for _ in range(256):
                part.write(bytes(2**20))
        archive.writestr("x/version", "3\n")
    assert path.stat().st_size < 3e5
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    refuse(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 100_000  # KiB


def make_tensor_pickle(size: int, stride: int, length: int) -> bytes:
    """Makes the pickle of {"x": tensor} with a float storage of a stated length."""
    buffer = io.BytesIO()
    pickler = pickle._Pickler(buffer, protocol=2)
    storage = object()
    pickler.persistent_id = lambda value: (  # type: ignore[method-assign]
        ("storage", torch.FloatStorage, "0", "cpu", length) if value is storage else None
    )

    class Outline:
        def __reduce__(self) -> Any:
            rebuild = torch._utils._rebuild_tensor_v2
            return (rebuild, (storage, 0, (size,), (stride,), False, OrderedDict()))

    pickler.dump({"geoguesser": {"format": 2}, "x": Outline()})
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("size", "stride", "length", "rule"),
    [
        (2**30, 0, 4, "longer than its entry"),  # one number, repeated
        (5, 1, 4, "longer than its entry"),
        (2, 9, 4, "longer than its entry"),
        (4, 1, 8, "not as long as its entry"),  # memory behind the storage
        (4, 1, -4, "not as long as its entry"),
        (-4, 1, 4, "damaged"),
    ],
)
def test_a_tensor_lies_within_its_entry(tmp_path: Path, size: int, stride: int, length: int, rule: str) -> None:
    path = tmp_path / "evil.ckpt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("x/data.pkl", make_tensor_pickle(size, stride, length))
        archive.writestr("x/data/0", bytes(16))
        archive.writestr("x/version", "3\n")
    assert rule in refuse(path)


def nest(levels: int) -> Any:
    """Makes 2 ** levels values out of `levels` lists."""
    value: Any = [0]
    for _ in range(levels):
        value = [value, value]
    return value


def nest_tuples(levels: int) -> Any:
    value: Any = (0,)
    for _ in range(levels):
        value = (value, value)
    return value


@pytest.mark.parametrize(
    "data",
    [
        dump({"geoguesser": {"format": 2, "x": nest(60)}}),
        # A key whose hash takes 2 ** 60 steps: built from opcodes, because making it here would not end.
        b"\x80\x02}K\x00q\x00"
        + b"".join(b"h%cq%ch%c\x86q%c" % (n, n, n, n + 1) for n in range(60))
        + b"N"
        + b"s.",
        b"\x80\x02cbuiltins\nbytearray\nI9999999999\n\x85R.",
        b"\x80\x02ctorch\nFloatTensor\nI9999999999\n\x85R.",
        b"\x80\x02r\xff\xff\xff\x7f.",
        b"\x80\x02" + b"]" * 10_000 + b"a" * 9_999 + b".",
        b"\x80\x05\x96\xff\xff\xff\xff\xff\xff\xff\x00.",
        b"\x80\x02c__builtin__\neval\nX\x01\x00\x00\x001\x85R.",
        b"\x80\x02ctorch._utils\n_rebuild_parameter\n}X\x0c\x00\x00\x00__defaults__Ns\x86b.",
        b"cos\nsystem\n.",
        b"",
        b".",
    ],
)
def test_pickles_that_grow_or_build_objects_are_refused_fast(
    checkpoint: Path, tmp_path: Path, data: bytes
) -> None:
    path = rewrite(checkpoint, tmp_path / "evil.ckpt", data=data)
    began = time.perf_counter()
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    assert time.perf_counter() - began < 5.0


def test_an_archive_with_two_directories_is_refused(checkpoint: Path, tmp_path: Path) -> None:
    # The second directory, at the end, is read by some readers, and the first by those that follow its offset.
    good, path = checkpoint.read_bytes(), tmp_path / "evil.ckpt"
    for data in (good + b"\0" * 30, good[:-2] + b"\x05\x00hello", b"PK" + good, good[:4] + b"\0" * 9 + good[4:]):
        path.write_bytes(data)
        with pytest.raises(CheckpointError):
            read_checkpoint(path)

    with zipfile.ZipFile(path, "w") as archive:
        for name in ("x/data.pkl", "X/DATA.PKL"):
            archive.writestr(name, dump({}))
    assert "each entry once" in refuse(path, {"resume": read_checkpoint})


@given(st.integers(0, 10**6), st.binary(min_size=1, max_size=40))
@settings(max_examples=150, deadline=None)
def test_a_damaged_checkpoint_is_read_or_refused(position: int, patch: bytes) -> None:
    buffer = io.BytesIO()
    torch.save({"geoguesser": {"format": 2}, "x": torch.ones(3), "y": [1, "a", None]}, buffer)
    data = bytearray(buffer.getvalue())
    start = position % len(data)
    data[start : start + len(patch)] = patch
    path = Path("/dev/shm" if Path("/dev/shm").is_dir() else ".") / f"geoguesser-{id(data)}.ckpt"
    try:
        path.write_bytes(data)
        read_checkpoint(path)
    except CheckpointError:
        pass
    finally:
        path.unlink()


NAMES = [
    "hf-hub:somebody/model",
    "hf_hub:a/b",
    "local-dir:{folder}",
    "timm/resnet18",
    "https://x/y",
    "../{folder}",
    "",
    7,
]


@pytest.mark.parametrize("name", NAMES)
def test_a_backbone_is_one_of_timms_own(
    checkpoint: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: object
) -> None:
    import huggingface_hub
    from timm.models import _hub

    def fetch(*_: object, **__: object) -> None:
        raise AssertionError("the hub is asked")

    for module, function in ((huggingface_hub, "hf_hub_download"), (_hub, "hf_hub_download")):
        monkeypatch.setattr(module, function, fetch)
    (tmp_path / "config.json").write_text('{"architecture": "resnet18"}')
    text = name.format(folder=tmp_path) if isinstance(name, str) else name

    content = torch.load(checkpoint, weights_only=True)
    content["geoguesser"]["network"]["backbone"]["name"] = text
    write_checkpoint(tmp_path / "evil.ckpt", content)
    for read in (geoguesser.load, Predictor.load, open_predictor):
        with pytest.raises(GeoguesserError, match=r"backbone\.name must be a model that timm"):
            read(tmp_path / "evil.ckpt")
    with pytest.raises(ConfigError, match=r"backbone\.name"):
        restore_backbone({"name": text, "mean": [0.5] * 3, "std": [0.5] * 3})

    folder = tmp_path / "export"
    folder.mkdir()
    write_model_folder(make_locator(0), folder, {})
    edit_export(folder, lambda config: config["network"]["backbone"].update(name=text))
    with pytest.raises(CheckpointError, match=r"backbone\.name must be a model that timm"):
        geoguesser.load(folder)


def edit_export(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Changes config.json of an exported folder, with the digest that an attacker would compute too."""
    config = json.loads((folder / "config.json").read_text())
    change(config)
    keys = ("views", "region", "network", "calibration", "data")
    text = json.dumps([config.get(name) for name in keys], sort_keys=True)
    config["description_sha256"] = hashlib.sha256(text.encode()).hexdigest()
    (folder / "config.json").write_text(json.dumps(config))


def edit_checkpoint(source: Path, target: Path, change: Callable[[dict[str, Any]], object]) -> Path:
    content = torch.load(source, weights_only=True)
    change(content["geoguesser"])
    write_checkpoint(target, content)
    return target


@pytest.mark.parametrize(
    "change",
    [
        lambda record: record["network"]["head"].update(in_features=10**9),
        lambda record: record["network"]["backbone"].update(name="eva02_enormous_patch14_clip_224"),
        lambda record: record["network"].update(
            fusion={"kind": "attention", "view_dropout": 0.0, "width": 10**6, "layers": 1, "heads": 1}
        ),
        lambda record: record["network"].update(
            fusion={"kind": "attention", "view_dropout": 0.0, "width": 16_384, "layers": 64, "heads": 1}
        ),
        lambda record: record["network"].update(
            fusion={"kind": "attention", "view_dropout": 0.0, "width": 16, "layers": 10**9, "heads": 1}
        ),
        lambda record: record["network"]["head"]["grid"]["cells"].update(columns=10**6, rows=10**6),
        lambda record: record["network"]["head"].update(kind="os.system"),
        lambda record: record["network"]["fusion"].update(kind="../fusion"),
        lambda record: record["network"]["fusion"].update(__class__=1),
        lambda record: record["image"].update(size=10**6),
        lambda record: record["region"].update(
            land_wkb=torch.frombuffer(
                bytearray(b"\x01\x07\x00\x00\x00\x01\x00\x00\x00" * 50_000), dtype=torch.uint8
            )
        ),
        lambda record: record["region"].update(crs_wkt="/etc/passwd"),
        lambda record: record.update(format=10**400),
        lambda record: record.update(format="2" * 10_000),
        lambda record: record.update(format=float("inf")),
    ],
)
def test_a_record_of_another_size_or_kind_is_refused_before_its_memory_is_taken(
    checkpoint: Path, tmp_path: Path, change: Callable[[dict[str, Any]], object]
) -> None:
    path = edit_checkpoint(checkpoint, tmp_path / "evil.ckpt", change)
    before, began = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.perf_counter()
    with pytest.raises(GeoguesserError):
        Predictor.load(path)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 600_000  # KiB
    assert time.perf_counter() - began < 10.0


def test_the_limit_of_memory_lets_a_network_of_its_weights_pass() -> None:
    with limit_allocation([torch.zeros(0)]):
        nn.Linear(100, 100)
        with pytest.raises(ValueError, match="describes a network of more than"):
            nn.Linear(10**5, 10**5)


def test_lightning_removes_no_file_that_a_checkpoint_names(tmp_path: Path) -> None:
    callback = BestCheckpoint(dirpath=str(tmp_path / "run/checkpoints"))
    state = callback.state_dict()
    for key in ("best_model_path", "kth_best_model_path", "last_model_path"):
        for name in ("../../victim", "/etc/victim", "a/../../victim", ".."):
            with pytest.raises(CheckpointError, match="of its own folder"):
                callback.load_state_dict(state | {key: name})
    with pytest.raises(CheckpointError, match="of its own folder"):
        callback.load_state_dict(state | {"best_k_models": {"../victim": torch.tensor(1.0)}})
    callback.load_state_dict(state | {"best_model_path": "best.ckpt"})


@pytest.mark.parametrize("version", ["run/checkpoints/best.ckpt", "run/checkpoints/last.ckpt"])
def test_checkpoints_of_version_0_1_are_read(version: str) -> None:
    assert read_checkpoint(V0_1 / version)["geoguesser"]["format"] in (1, 2)


def test_arrays_are_as_long_as_their_headers_say(tmp_path: Path) -> None:
    path = tmp_path / "facts.npz"
    np.savez(path, a=np.arange(5), text=np.array("hello"))
    assert load_npz(path, ["a"])["a"].tolist() == list(range(5))
    with pytest.raises(KeyError):
        load_npz(path, ["b"])

    np.savez_compressed(path, a=np.zeros(10**7))
    with pytest.raises(ValueError, match="without compression"):
        load_npz(path, ["a"])

    for header in ("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000000,)}",
                   "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}",
                   "{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"):  # fmt: skip
        text = header.encode().ljust(117) + b"\n"
        data = b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + bytes(8)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.npy", data)
        with pytest.raises(ValueError, match="header does not describe"):
            load_npz(path, ["a"])
        (tmp_path / "a.npy").write_bytes(data)
        with pytest.raises(ValueError, match="header does not describe"):
            map_array(tmp_path / "a.npy")


def test_an_exported_folder_of_deep_or_large_json_is_refused(tmp_path: Path) -> None:
    folder = tmp_path / "export"
    folder.mkdir()
    write_model_folder(make_locator(0), folder, {})
    for text in ("[" * 10**6, '{"format": NaN}', '{"format": 1, "network": ' + "[" * 500 + "]" * 500 + "}"):
        (folder / "config.json").write_text(text)
        with pytest.raises(CheckpointError, match="no description of a model"):
            geoguesser.load(folder)


def test_predict_and_export_refuse_in_one_line(checkpoint: Path, tmp_path: Path) -> None:
    path = rewrite(checkpoint, tmp_path / "small.ckpt", compression=zipfile.ZIP_DEFLATED)
    for name, run in (("predict", run_predict), ("export", run_export)):
        config = OmegaConf.load(Path(conf_dir()) / f"{name}.yaml")
        config.run, config.out = str(path), str(tmp_path / "out.csv")
        if name == "predict":
            config.images = str(V0_1 / "places")
        config.pop("defaults", None)
        with pytest.raises(CheckpointError, match="without compression"):
            run(config)


@pytest.mark.slow
@pytest.mark.parametrize("command", ["predict", "export", "evaluate", "serve", "train"])
def test_no_command_runs_the_code_of_a_checkpoint(tmp_path: Path, command: str) -> None:
    marker, run = tmp_path / "marker", tmp_path / "run"
    shutil.copytree(V0_1 / "run", run)
    for name in ("best.ckpt", "last.ckpt"):
        torch.save({"geoguesser": {"format": 2}, "x": Payload(marker)}, run / "checkpoints" / name)
    words = {
        "predict": [f"run={run}", f"images={V0_1 / 'places'}", "out=p.csv"],
        "export": [f"run={run}", "out=e"],
        "evaluate": [f"run={run}", f"data.roots=[{V0_1 / 'places'}]"],
        "serve": [f"run={run}", "port=0"],
        "train": [f"init_from={run}", "data=demo", "data.places=60", "data.px=56", "image.size=32",
                  "backbone.name=test_convnext", "backbone.pretrained=false", "trainer=cpu", "logger=csv"],
    }[command]  # fmt: skip
    call = [sys.executable, "-m", f"geoguesser.{command}", *words]
    done = subprocess.run(call, cwd=tmp_path, capture_output=True, text=True, timeout=240, check=False)
    assert done.returncode != 0
    assert "no plain value" in done.stderr + done.stdout
    assert "Traceback" not in done.stderr
    assert not marker.exists()
