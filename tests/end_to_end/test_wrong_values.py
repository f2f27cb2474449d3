"""Values that commands refuse with their key and rule, before any work."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import compose

from geoguesser.commands.arguments import expand_runs
from geoguesser.commands.compare import run_compare
from geoguesser.commands.dashboard import run_dashboard
from geoguesser.commands.evaluate import run_evaluate
from geoguesser.commands.export import run_export
from geoguesser.commands.predict import run_predict
from geoguesser.commands.prepare import run_prepare
from geoguesser.commands.report import run_report
from geoguesser.commands.serve import run_serve
from geoguesser.errors import GeoguesserError

COMMANDS: dict[str, Callable[[Any], Any]] = {
    "compare": run_compare,
    "dashboard": run_dashboard,
    "evaluate": run_evaluate,
    "export": run_export,
    "predict": run_predict,
    "prepare": run_prepare,
    "report": run_report,
    "serve": run_serve,
}


@pytest.fixture
def user_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Current folder, with photos of a place and a table."""
    (tmp_path / "photos/place").mkdir(parents=True)
    (tmp_path / "p.csv").write_text("path\nx.jpg\n")
    monkeypatch.chdir(tmp_path)
    return tmp_path


# RUN is a run folder, and DEMO a folder of places.
@pytest.mark.parametrize(
    ("command", "words", "message"),
    [
        ("compare", "", "runs must name run or sweep folders, got []"),
        ("compare", "nowhere", "nowhere must be a run folder"),
        ("compare", "RUN out=x.pdf", "out must be the name of an .html file"),
        ("compare", "RUN out=no/x.html", "out=no/x.html must lie in a folder that exists"),
        ("compare", "RUN baseline=other", "baseline must be one of the runs: 0"),
        ("compare", "RUN confidence=95", "confidence must be a number from 0.5 to 0.999"),
        ("compare", "RUN bootstrap.samples=10", "bootstrap.samples must be an integer from 1000"),
        ("compare", "RUN places=-1", "places must be an integer from 0 to 100"),
        ("compare", "RUN +typo=1", "typo is not a key of this command"),
        ("dashboard", "sweep_dir=null", "sweep_dir must be "),
        ("evaluate", "", "run must be given, or predictions"),
        ("evaluate", "run=r predictions=p", "run must not be given with predictions"),
        ("evaluate", "run=nowhere", "nowhere must be a run folder"),
        ("evaluate", "run=[]", "run must name a run folder, or several"),
        ("evaluate", "run=r data.roots=[a] data.path=b", "data.path must not be given with data.roots"),
        ("evaluate", "run=r data.split=all", "data.split must be one of train, val, test, unused"),
        ("evaluate", "run=r data.split=val", "data.split needs data.roots or data.path"),
        ("evaluate", "run=r truth=t.csv", "truth must be given only with predictions"),
        ("evaluate", "run=r confidence=2", "confidence must be a number from 0.5 to 0.999"),
        ("evaluate", "run=r bootstrap.samples=3", "bootstrap.samples must be an integer from 1000"),
        ("evaluate", "run=r out=p.csv", "out must be a folder, not a file"),
        ("evaluate", "predictions=nowhere.csv", "predictions=nowhere.csv must be a file"),
        ("evaluate", "predictions=p.csv on_missing=foo", "on_missing must be one of error, skip"),
        ("export", "run=nowhere out=model", "nowhere must be a run folder"),
        ("export", "run=RUN out=model formats=[]", "formats must hold some of portable, torch, onnx, got []"),
        ("export", "run=RUN out=model formats=[tflite]", "formats must be one of portable, torch, onnx, got"),
        ("export", "run=RUN out=model license='a:b'", "license must be a licence's short name"),
        ("export", "run=RUN out=model median_steps=0", "median_steps must be"),
        ("export", "run=RUN out=model tolerance.km=-1", "tolerance.km must be a number from 0"),
        ("export", "run=RUN out=model push=model", "push must be OWNER/NAME"),
        ("export", "run=RUN out=model push=alice/model", "push=alice/model needs a network, which HF_HUB_OFFLINE"),
        ("export", "run=RUN out=model push_private=3", "push_private must be true or false"),
        ("export", "run=RUN out=model verify_on=nowhere", "images=nowhere must be there"),
        ("predict", "", "run must be given"),
        ("predict", "run=r images=nowhere", "images=nowhere must be there. It can be a folder of place folders"),
        ("predict", "run=r images=photos/place", "images=photos/place must hold a place: a folder of place"),
        ("predict", "run=nowhere images=photos", "nowhere must be a run folder with checkpoints/best.ckpt"),
        ("predict", "run=r images=i batch_size=0", "batch_size must be a positive integer"),
        ("predict", "run=r images=i device=abacus", "device must be auto or a device of this machine"),
        ("predict", "run=r images=photos out=no/p.csv", "out=no/p.csv must lie in a folder that exists"),
        ("predict", "run=r images=photos out=photos", "out must be the name of a .csv file"),
        ("predict", "run=r images=[p.csv] out=p.csv", "out must be another file than images, for it is replaced"),
        (
            "predict",
            "run=r images=i +extra=1",
            "extra is not a key of this command. Its keys: ",
        ),
        ("prepare", "data.roots=[DEMO] out=null", "out must name the store's folder"),
        ("prepare", "data.roots=[DEMO] out=p.csv", "out must be a folder, not a file"),
        ("prepare", "data.roots=[DEMO] out=store sizes=56", "sizes must be a list of sizes in pixels"),
        ("prepare", "data.roots=[DEMO] out=store sizes=[56,8]", "sizes must be an integer from 16 to 4096"),
        ("prepare", "data.roots=[DEMO] check_only=maybe", "check_only must be true or false"),
        (
            "prepare",
            "data.roots=[DEMO] out=store split.shares=[1,0,0]",
            "split.shares must be a number above 0",
        ),
        (
            "prepare",
            "data.roots=[DEMO] out=store data.missing_views=keep",
            "data.missing_views must be one of",
        ),
        ("prepare", "data.roots=[DEMO] out=store data.on_bad.bad_row=keep", "data.on_bad.bad_row must be one of"),
        ("prepare", "data.roots=[DEMO] out=store +typo=1", "typo is not a key of this command. Its keys: "),
        ("prepare", "data.roots=[nowhere] out=store", "data.roots[0] must be a folder, got 'nowhere'"),
        ("prepare", "data=store data.path=nowhere out=store", "data.path=nowhere must be a folder"),
        ("report", "", "run must be given"),
        ("report", "run=nowhere", "run=nowhere must be a run folder"),
        ("report", "run=RUN out=x.pdf", "out must be the name of an .html file"),
        ("report", "run=RUN out=no/x.html", "out=no/x.html must lie in a folder that exists"),
        ("report", "run=RUN max_places=0", "max_places must be an integer from 1 to 20000"),
        ("report", "run=RUN examples=-1", "examples must be an integer from 0 to 30"),
        ("report", "run=RUN thumbnails=x", "thumbnails must be an integer from 0 to 1000"),
        ("report", "run=RUN neighbours=1", "neighbours must be true or false"),
        ("report", "run=RUN wandb=maybe", "wandb must be auto, true or false"),
        ("report", "run=RUN device=abacus", "device must be auto or a device of this machine"),
        ("report", "run=RUN places=[x]", "places must name test places of the run"),
        ("report", "run=RUN places=[]", "places must be null or a list of ids"),
        ("report", "run=RUN +typo=1", "typo is not a key of this command"),
        ("serve", "run=[]", "run must name a run folder"),
        ("serve", "run=r port=70000", "port must be an integer from 0 to 65535"),
        ("serve", "run=r threads=0", "threads must be a positive integer"),
        ("serve", "run=r host=''", "host must be an address of this machine"),
        ("serve", "run=r host=203.0.113.7", "host cannot be used (Cannot assign "),
        ("serve", "run=r hosts=a", "hosts must be a list of names"),
        ("serve", "run=r root=nowhere", "root=nowhere must be a folder"),
        ("serve", "run=r limits.batch=0", "limits.batch must be a positive integer"),
        ("serve", "run=r limits.wait_ms=-1", "limits.wait_ms must be a number from 0"),
        ("serve", "run=r limits=3", "limits must be a mapping of upload_mib"),
        ("serve", "run=r +limits.more=1", "limits.more is not a key "),
        ("serve", "run=nowhere port=0", "nowhere must be a run folder with checkpoints/best.ckpt"),
        ("serve", "run=nowhere port=0 device=tpu9", "device must be auto or a device of this machine"),
    ],
)
def test_a_wrong_value_is_refused(
    command: str, words: str, message: str, sweep: Path, demo_root: Path, user_folder: Path
) -> None:
    overrides = words.replace("RUN", str(sweep / "0")).replace("DEMO", str(demo_root)).split()
    overrides = expand_runs(overrides) if command == "compare" else overrides
    with pytest.raises(GeoguesserError, match="^" + re.escape(message)):
        COMMANDS[command](compose(overrides, command))
    assert {path.name for path in user_folder.rglob("*")} == {"photos", "place", "p.csv"}
