"""Files that chance has damaged end in success or in one sentence: never in a hang or a traceback.

``SEGCAL_MUTATIONS`` sets how many there are of all kinds together, by default 200.
"""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from mutations import KINDS, use_run, write_archives, write_predictions

from segcal_lite.training.models import load_model
from segcal_lite.training.on_slices import train_model

pytestmark = pytest.mark.slow
N_OF_A_KIND = -(-int(os.environ.get("SEGCAL_MUTATIONS", "200")) // len(KINDS))
MOST_MB = 2000


@pytest.fixture(scope="module")
def whole(discs, tmp_path_factory):
    """A dataset, a finished run, an interrupted training, sets, archives, predictions."""
    folder = tmp_path_factory.mktemp("whole")
    shutil.copytree(discs, folder / "run" / "discs")
    use_run(folder)
    _, settings = load_model(folder / "run" / "models" / "unet2d-dice" / "0", "cpu")

    def interrupt(row):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(folder / "started", folder / "run" / "prepared", settings, "cpu", interrupt)
    entry = (
        f"  data: {folder / 'run' / 'discs'}\n  foreground: [{{}}]\n  spacing_mm: [2.0, 2.0, 8.0]\n"
    )
    entries = (f"{name}:\n{entry.format(name)}" for name in ("ring", "core"))
    (folder / "sets.yaml").write_text("".join(entries))
    write_archives(folder)
    write_predictions(folder)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_damaged_files_are_named_or_read(kind, whole, tmp_path):
    shutil.copytree(whole, tmp_path / "own")
    command = [sys.executable, Path(__file__).with_name("mutations.py"), kind, tmp_path / "own"]
    ran = subprocess.run(
        [*map(str, command), str(N_OF_A_KIND), "1"],
        capture_output=True,
        text=True,
        timeout=60 + 12 * N_OF_A_KIND,
        check=False,
    )
    assert ran.returncode == 0, ran.stderr[-2000:]
    found = json.loads(ran.stdout.splitlines()[-1])
    assert found["failures"] == []
    assert found["peak_mb"] < MOST_MB
