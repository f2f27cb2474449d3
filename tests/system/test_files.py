"""Atomic writes: complete contents, temporary files, links, and permissions by the umask."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest

from geoguesser.system import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def target(tmp_path: Path) -> Path:
    path = tmp_path / "file.txt"
    path.write_text("old")
    return path


def test_writers_replace_the_file_and_leave_nothing_else(target: Path):
    files.write_bytes(target, b"bytes", durable=True)
    assert target.read_bytes() == b"bytes"
    files.write_text(target, "täxt\n")
    assert target.read_bytes() == "täxt\n".encode()
    files.write_json(target, {"a": [1, "é"]})
    assert json.loads(target.read_text()) == {"a": [1, "é"]}
    files.write_csv(target, pd.DataFrame({"a": [1.0, 1 / 3], "b": ["x", "y,z"]}))
    assert target.read_text() == 'a,b\n1.0000000,x\n0.3333333,"y,z"\n'
    with files.replace_file(target) as temporary:
        assert temporary.parent == target.parent
        temporary.write_text("path")
    assert target.read_text() == "path"
    assert names(target.parent) == ["file.txt"]


def test_readers_see_the_old_contents_until_the_block_ends(target: Path):
    with files.open_replacement(target, "w") as stream:
        stream.write("new")
        stream.flush()
        assert target.read_text() == "old"
    assert target.read_text() == "new"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
@pytest.mark.parametrize("write", [files.open_replacement, files.replace_file])
def test_a_failure_keeps_the_old_contents_and_removes_the_temporary_file(target: Path, write, error):
    with pytest.raises(error), write(target):
        raise error
    assert target.read_text() == "old"
    assert names(target.parent) == ["file.txt"]


def test_a_failing_rename_removes_the_temporary_file(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("kept")
    with pytest.raises(OSError, match="directory"):
        files.write_text(tmp_path / "folder", "new")
    assert names(tmp_path) == ["folder"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_full_disk_is_an_error_and_keeps_the_old_contents(target: Path, monkeypatch: pytest.MonkeyPatch):
    temporary, descriptor = target.with_name(".file.txt.part"), os.open("/dev/full", os.O_RDWR)
    temporary.touch()
    monkeypatch.setattr(files, "_create_temporary", lambda path: (temporary, descriptor))
    with pytest.raises(OSError, match="No space left"):
        files.write_text(target, "new")
    assert target.read_text() == "old"
    assert names(target.parent) == ["file.txt"]


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_json_refuses_numbers_that_it_lacks(target: Path, value: float):
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(target, {"a": value})
    assert target.read_text() == "old"
    assert names(target.parent) == ["file.txt"]


def test_a_file_under_a_temporary_name_stays(target: Path, monkeypatch: pytest.MonkeyPatch):
    tokens = iter(["0" * 16, "1" * 16, "2" * 16])
    monkeypatch.setattr(files.secrets, "token_hex", lambda _: next(tokens))
    placed, link = (target.with_name(f".file.txt.{digit * 16}.part") for digit in "01")
    victim = target.with_name("victim")
    placed.write_text("untouched")
    link.symlink_to(victim)

    files.write_text(target, "new")

    assert target.read_text() == "new"
    assert placed.read_text() == "untouched"
    assert link.is_symlink()
    assert not victim.exists()


@pytest.mark.skipif(os.name != "posix", reason="permissions of POSIX")
@pytest.mark.parametrize(("umask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_permissions_follow_from_the_umask(tmp_path: Path, umask: int, mode: int):
    before = os.umask(umask)
    try:
        files.write_text(tmp_path / "file", "new")
        with files.replace_file(tmp_path / "other") as temporary:
            temporary.write_text("new")
    finally:
        os.umask(before)
    assert [stat.S_IMODE((tmp_path / name).stat().st_mode) for name in ("file", "other")] == [mode, mode]


KILLED = """
import os, signal, sys
from pathlib import Path
from geoguesser.system.files import open_replacement
with open_replacement(Path(sys.argv[1]), "w", durable=True) as stream:
    stream.write("new")
    stream.flush()
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_before_the_rename_keeps_the_old_contents(target: Path):
    done = subprocess.run([sys.executable, "-c", KILLED, target], check=False)
    assert done.returncode == -signal.SIGKILL
    assert target.read_text() == "old"
    assert len(names(target.parent)) == 2

    # An exclusive writer removes what the killed process left; others must not, for it may be alive.
    files.write_bytes(target, b"newer")
    assert len(names(target.parent)) == 2
    files.write_bytes(target, b"newest", exclusive=True)
    assert names(target.parent) == ["file.txt"]


def test_only_temporary_files_of_the_target_are_removed(target: Path):
    others = [".file.txt.backup.part", ".file.txt", "file.txt.part", f".other.txt.{'0' * 16}.part", ".file.part"]
    for name in [*others, ".file.txt.part", f".file.txt.{'a' * 16}.part"]:
        target.with_name(name).write_text("x")
    files.remove_temporaries(target)
    assert names(target.parent) == sorted([*others, "file.txt"])
    files.remove_temporaries(target.parent / "missing" / "file.txt")


def test_temporary_names_tell_their_target(target: Path):
    replacement = files.Replacement(target)
    assert files.get_target_name(replacement.temporary.name) == "file.txt"
    replacement.discard()
    assert names(target.parent) == ["file.txt"]
    assert files.get_target_name("movie.part") == "movie.part"
    assert files.get_target_name(".file.txt.part") == ".file.txt.part"


def test_a_folder_is_replaced_as_one(tmp_path: Path):
    folder = tmp_path / "parent" / "folder"
    with files.replace_folder(folder) as temporary:
        (temporary / "a").write_text("1")
    assert names(folder) == ["a"]

    def fail() -> None:
        with files.replace_folder(folder) as temporary:
            (temporary / "b").write_text("2")
            raise ValueError("broken")

    with pytest.raises(ValueError, match="broken"):
        fail()
    assert names(folder) == ["a"]

    (folder.parent / f".folder.{'0' * 16}.part").mkdir()
    with files.replace_folder(folder) as temporary:
        (temporary / "b").write_text("2")
    assert names(folder) == ["b"]
    assert names(folder.parent) == ["folder"]
