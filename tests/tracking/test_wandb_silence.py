"""An offline run asks nobody: seen in a network of its own, where W&B's own defaults are seen asking."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

ISOLATED_NETWORK = ROOT / "tests" / "support" / "isolated_network.py"
WAIT = "import time, wandb; time.sleep(3); wandb.teardown()\n"
OURS = (
    "import sys; from pathlib import Path; sys.path.insert(0, 'tests')\n"
    "import pandas as pd\n"
    "from support.wandb_runs import make_record\n"
    "made = make_record(Path(sys.argv[1]))\n"
    "made.start()\n"
    "made.make_lightning_logger().log_metrics({'val/error_km_mean': 5.0}, step=0)\n"
    "made.log_results({}, [Path('docs/pictures/grid.png')], pd.DataFrame({'uuid': ['a']}))\n"
    "made.finish('done')\n" + WAIT
)
THEIRS = (
    "import os, sys, wandb; os.mkdir(sys.argv[1])\n"
    "run = wandb.init(mode='offline', dir=sys.argv[1])\n"
    "run.log({'loss': 1})\n"
    "run.finish()\n" + WAIT
)


def networks_are_ours() -> bool:
    """Whether this process may make networks, and the tools for it are there."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    words = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.mark.slow  # in processes of their own
@pytest.mark.skipif(not networks_are_ours(), reason="needs Linux and the right to make a network namespace")
def test_an_offline_run_asks_nobody_where_wandb_by_itself_does(tmp_path: Path):
    unset = ("WANDB_MODE", "WANDB_ERROR_REPORTING", "WANDB_SILENT", "WANDB_SERVICE")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    words = ["unshare", "--net", sys.executable, str(ISOLATED_NETWORK), sys.executable, "-c"]
    both = [
        subprocess.Popen(
            [*words, code, str(tmp_path / name)],
            cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, code in (("ours", OURS), ("theirs", THEIRS))
    ]  # fmt: skip
    (asked, errors), (control, control_errors) = (one.communicate(timeout=120) for one in both)
    assert both[0].returncode == 0, errors
    assert both[1].returncode == 0, control_errors
    assert "name server" in control  # the tap sees what W&B's processes ask; so nothing seen is nothing asked
    assert asked.strip() == ""
    assert list(tmp_path.glob("ours/wandb/offline-run-*/*.wandb"))
