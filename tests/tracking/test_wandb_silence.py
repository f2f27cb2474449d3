"""An offline run makes no network requests, observed in an isolated network; W&B's defaults do."""

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
    "run_logger = make_record(Path(sys.argv[1]))\n"
    "run_logger.start()\n"
    "run_logger.make_lightning_logger().log_metrics({'val/error_km_mean': 5.0}, step=0)\n"
    "run_logger.log_results({}, [Path('docs/pictures/grid.png')], pd.DataFrame({'uuid': ['a']}))\n"
    "run_logger.finish('done')\n" + WAIT
)
THEIRS = (
    "import os, sys, wandb; os.mkdir(sys.argv[1])\n"
    "run = wandb.init(mode='offline', dir=sys.argv[1])\n"
    "run.log({'loss': 1})\n"
    "run.finish()\n" + WAIT
)


def can_isolate_network() -> bool:
    """Returns whether this process may make network namespaces."""
    if not sys.platform.startswith("linux") or not shutil.which("unshare") or not shutil.which("ip"):
        return False
    words = ["unshare", "--net", "ip", "link", "set", "lo", "up"]
    return subprocess.run(words, check=False, capture_output=True).returncode == 0


@pytest.mark.slow
@pytest.mark.skipif(not can_isolate_network(), reason="needs Linux and the right to make a network namespace")
def test_an_offline_run_makes_no_requests_but_wandbs_defaults_do(tmp_path: Path):
    unset = ("WANDB_MODE", "WANDB_ERROR_REPORTING", "WANDB_SILENT", "WANDB_SERVICE")
    env = {name: value for name, value in os.environ.items() if name not in unset}
    words = ["unshare", "--net", sys.executable, str(ISOLATED_NETWORK), sys.executable, "-c"]
    processes = [
        subprocess.Popen(
            [*words, code, str(tmp_path / name)],
            cwd=ROOT, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        )
        for name, code in (("ours", OURS), ("theirs", THEIRS))
    ]  # fmt: skip

    (requests, errors), (control, control_errors) = (process.communicate(timeout=120) for process in processes)
    assert processes[0].returncode == 0, errors
    assert processes[1].returncode == 0, control_errors

    # The control shows that the isolated network observes the requests of W&B's processes.
    assert "name server" in control
    assert requests.strip() == ""
    assert list(tmp_path.glob("ours/wandb/offline-run-*/*.wandb"))
