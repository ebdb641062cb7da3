"""Killed at any moment, a run goes on to the same bits: nothing lost, nothing trained twice.

``SEGCAL_KILLS`` sets how often, by default 5 times.
"""

import json
import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import official_layouts as official
import psutil
import pytest
from conftest import TINY_VOLUMES, write_tiny_sets

from segcal_lite.runs.folders import project_root

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(os.name == "nt", reason="signals of POSIX"),
]
N_KILLS = int(os.environ.get("SEGCAL_KILLS", "5"))
RESULTS = ("weights.safetensors", "history.csv", "scaling.json")
LEFT = (".partial-*", "checkpoint.safetensors", "state.json", "failed-*")


@pytest.fixture(scope="module")
def command(discs, tmp_path_factory):
    """The command of a farm without its last argument, and how long a whole one takes."""
    inputs = tmp_path_factory.mktemp("inputs")
    source = official.acdc(inputs / "ACDC", n_patients=6)
    sets = write_tiny_sets(inputs / "sets", ("liver_ct", "atrium"))
    farm = Path(__file__).with_name("farm.py")
    return [sys.executable, *map(str, (farm, source, discs, sets, json.dumps(TINY_VOLUMES)))]


def started(command, out):
    environment = os.environ | {"PYTHONPATH": str(project_root())}
    return subprocess.Popen(
        [*command, str(out)],
        cwd=project_root(),
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )


def results(out):
    """Bytes of all that a run leaves for others, by its place."""
    names = (*RESULTS, "*.nii.gz", "cases.csv", "scores/*/*.csv", "scores/*/*.json", "tables/*.csv")
    paths = {path for name in names for path in out.rglob(name)}
    return {path.relative_to(out).as_posix(): path.read_bytes() for path in sorted(paths)}


def finished_weights(out):
    """When each finished model was written."""
    return {path: path.stat().st_mtime_ns for path in out.rglob("weights.safetensors")}


def kill(process, rng):
    """Kill all processes of a farm, its parent alone, or one of its workers; none may stay.

    One without whom the farm can go on, such as Python's tracker of resources, leaves it its time.
    """
    family = psutil.Process(process.pid).children(recursive=True)
    how = rng.choice(("all", "all", "parent", "worker"))
    if how == "all":
        os.killpg(process.pid, signal.SIGKILL)
    elif how == "worker" and family:
        victim = rng.choice(family)
        victim.kill()
    else:
        process.kill()
    process.communicate(timeout=600)
    _, alive = psutil.wait_procs(family, timeout=30)
    assert alive == [], how
    return how


def test_killed_at_any_moment_it_ends_as_a_whole_run(command, tmp_path):
    begin = time.monotonic()
    whole = started(command, tmp_path / "whole")
    _, errors = whole.communicate(timeout=600)
    seconds = time.monotonic() - begin
    assert whole.returncode == 0, errors.decode()[-2000:]
    expected = results(tmp_path / "whole")
    assert len([name for name in expected if name.endswith("weights.safetensors")]) == 9
    n_kills, number = 0, 0
    while n_kills < N_KILLS:
        out, done, code = tmp_path / f"farm{number}", {}, None
        while code is None:
            rng = random.Random(f"kill {n_kills} {number}")
            process = started(command, out)
            try:
                process.communicate(timeout=rng.uniform(0.05, 1) * seconds)
                code = process.returncode
            except subprocess.TimeoutExpired:
                kill(process, rng)
                n_kills += 1
            now = finished_weights(out)
            assert now.items() >= done.items()  # no model was trained twice
            done = now
        assert code == 0
        assert results(out) == expected
        left = [path for name in LEFT for path in out.rglob(name)]
        assert left == []
        number += 1
