"""Commands x attacks: each command that opens a received folder, on copies in which attacks are planted.

The folders are those of tests/compat. All commands run once, in processes that are forked after all imports, with
the module `planted` on the import path and a secret in the environment.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

pytestmark = pytest.mark.slow

COMPAT = ROOT / "tests" / "compat"
SECRET = "planted-secret-value"
BOMB = "a0: &a0 [x,x,x,x,x,x,x,x,x]\n" + "".join(
    f"a{level}: &a{level} [{','.join(9 * [f'*a{level - 1}'])}]\n" for level in range(1, 12)
)
ONE_PLACE = ["thumbnails=0", "examples=1", "device=cpu"]
SWEEP = [
    "--multirun", "data=places", "data.roots=[places]", "data.num_workers=0", "split.shares=[0.6,0.2,0.2]",
    "image=px56", "density=coarse", "backbone.name=test_convnext", "backbone.pretrained=false",
    "backbone.source=hub", "trainer=cpu", "logger=csv", "pictures=false", "epochs=2", "grid.size=5,9",
    "sweep.name=again",
]  # fmt: skip

# Name of the folder -> commands that open it.
ON_RUNS = {
    "compare": ["compare", "runs=[run,{run}]", "out={run}.html", "pictures=false"],
    "report": ["report", "run={run}", *ONE_PLACE],
    "report_wandb": ["report", "run={run}", "wandb=true", *ONE_PLACE],
    "evaluate": ["evaluate", "run={run}", "out=evaluated_{run}", "pictures=false", "device=cpu"],
    "predict": ["predict", "run={run}", "images=more/images", "device=cpu", "out=predicted_{run}.csv"],
    "export": ["export", "run={run}", "out=exported_{run}", "formats=[portable]"],
    "resume": ["train", "resume={run}", "epochs=4"],
}
ATTACKED_RUNS = ("config", "bomb", "overrides", "links")
COMMANDS = {
    # Before a resume, which writes the config anew.
    "compare_region": ["compare", "runs=[config]", "out=region.html", "pictures=false"],
} | {
    f"{name}_{run}": [word.format(run=run) for word in words]
    for run in ATTACKED_RUNS
    for name, words in ON_RUNS.items()
} | {
    "sweep_config": ["train", *SWEEP, "hydra.sweep.dir=sweep_config"],
    "sweep_bomb": ["train", *SWEEP, "hydra.sweep.dir=sweep_bomb"],
    "sweep_links": ["train", *SWEEP, "hydra.sweep.dir=sweep_links"],
    "compare_sweep": ["compare", "runs=[sweep_config]", "out=sweep.html", "pictures=false"],
}  # fmt: skip


def edit_config(file: Path) -> None:
    """Puts targets, interpolations and settings of an attacker into a config."""
    config = yaml.safe_load(file.read_text())
    config["region"] = {"_target_": "planted.country", "code": "${oc.env:PLANTED_TOKEN}"}
    config["logger"] = {"_target_": "planted.WandbRecord", "mode": "online", "entity": "attacker"}
    config["name"] = "${oc.env:PLANTED_TOKEN}"
    config["data"]["more"] = {"_target_": "planted.boom"}
    config["callbacks"]["planted"] = {
        "_target_": "planted.boom",
        "deep": ["${job_name:}", "${oc.env:PLANTED_TOKEN}"],
    }
    file.write_text(yaml.safe_dump(config))


def plant(home: Path) -> None:
    """Makes the attacked copies."""
    for run in ATTACKED_RUNS:
        shutil.copytree(home / "run", home / run)
    for sweep in ("sweep_config", "sweep_bomb", "sweep_links"):
        shutil.copytree(home / "sweep", home / sweep)

    edit_config(home / "config" / "config.yaml")
    (home / "bomb" / "config.yaml").write_text(f"seed: 0\n{BOMB}")
    (home / "bomb" / "overrides.yaml").write_text(BOMB)
    words = yaml.safe_load((home / "run" / "overrides.yaml").read_text())
    words += ["+head.extra={_target_: planted.boom}", "name=${oc.env:PLANTED_TOKEN}"]
    (home / "overrides" / "overrides.yaml").write_text(yaml.safe_dump(words))
    for name in ("report.html", "pictures", "train.log", ".hydra", "wandb", "error.log"):
        path = home / "links" / name
        if path.is_dir():
            shutil.rmtree(path)
        path.unlink(missing_ok=True)
        path.symlink_to(home / "outside" / "kept.txt" if "." in name[1:] else home / "outside")

    for job in (home / "sweep_config").glob("*/config.yaml"):
        edit_config(job)
    for job in (home / "sweep_bomb").glob("*/config.yaml"):
        job.write_text(BOMB)
    job = min((home / "sweep_links").glob("*/config.yaml")).parent
    shutil.rmtree(job)
    job.symlink_to(home / "outside")


@pytest.fixture(scope="module")
def home(tmp_path_factory) -> Path:
    """Folder in which all commands have run."""
    home = tmp_path_factory.mktemp("security") / "home"
    shutil.copytree(COMPAT / "v0_1", home)
    (home / "outside").mkdir()
    (home / "outside" / "kept.txt").write_text("kept")
    (home / "planted.py").write_text(
        f"open({str(home / 'marker')!r}, 'w').close()\n"
        "boom = WandbRunLogger = WandbRecord = country = lambda *args, **kwargs: None\n"
    )
    plant(home)
    (home / "commands.json").write_text(json.dumps({"commands": COMMANDS, "history": {}}))

    env = {key: value for key, value in os.environ.items() if not key.startswith(("COVERAGE_", "WANDB_"))}
    env |= {"PYTHONPATH": os.pathsep.join([str(home), str(ROOT)]), "PLANTED_TOKEN": SECRET}
    fork = [sys.executable, str(COMPAT / "fork_commands.py"), "commands.json"]
    subprocess.run(fork, cwd=home, env=env, check=True, timeout=900)
    return home


@pytest.mark.parametrize("name", COMMANDS)
def test_a_command_ends_without_a_traceback(home: Path, name: str):
    text = (home / f"{name}.log").read_text()
    code = json.loads((home / "exits.json").read_text())[name]
    assert "Traceback" not in text
    assert code == 0 or "error: " in text


def test_nothing_of_the_attacker_was_imported(home: Path):
    assert not (home / "marker").exists()


def test_nothing_outside_a_folder_was_written_or_removed(home: Path):
    assert [(file.name, file.read_text()) for file in (home / "outside").iterdir()] == [("kept.txt", "kept")]


def test_no_file_and_no_log_holds_the_secret(home: Path):
    files = [file for file in home.rglob("*") if file.is_file()]
    assert len(files) > 100
    assert [file for file in files if SECRET.encode() in file.read_bytes()] == []


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("compare_region", "region cannot be built"),
        ("compare_bomb", "no YAML aliases"),
        ("report_bomb", "no YAML aliases"),
        ("report_links", "must not be a symbolic link"),
        ("resume_bomb", "no YAML aliases"),
        ("resume_overrides", "+head.extra={_target_: planted.boom}"),
        ("resume_links", "must not be a symbolic link"),
        ("sweep_links", "must not be a symbolic link"),
    ],
)
def test_a_refusal_names_the_reason(home: Path, name: str, said: str):
    assert said in (home / f"{name}.log").read_text()


def test_a_report_talks_to_no_account_that_the_run_names(home: Path):
    assert "W&B was offline" in (home / "report_wandb_config.log").read_text()
    records = list((home / "config" / "wandb").rglob("*.wandb"))
    assert records
    assert not any(b"attacker" in record.read_bytes() for record in records)


def test_a_server_resolves_nothing(home: Path, monkeypatch):
    from geoguesser.commands.serve import load_models

    monkeypatch.chdir(home)
    monkeypatch.setenv("PLANTED_TOKEN", SECRET)
    monkeypatch.syspath_prepend(home)
    models = load_models(["config", "bomb"], "cpu")
    assert [model.name for model in models] == ["config", "bomb"]
    assert not (home / "marker").exists()
