"""The lock files hold the versions of constraints.txt, each with its hashes."""

import re

import pytest

from segcal_lite.runs.folders import project_root

PIN = re.compile(r"^([a-z0-9._-]+)==([^ ;\\]+)", re.IGNORECASE)


def pins(path):
    lines = path.read_text().splitlines()
    return {m[1].lower().replace("_", "-"): m[2] for m in map(PIN.match, lines) if m}


@pytest.mark.parametrize("system", ["linux", "macos", "windows"])
def test_a_lock_holds_tested_versions_with_hashes(system):
    path = project_root() / "locks" / f"{system}.txt"
    tested, locked = pins(project_root() / "constraints.txt"), pins(path)
    assert {"torch", "numpy", "nibabel", "jupyterlab", "papermill"} <= locked.keys()
    assert {name: tested[name] for name in locked.keys() & tested.keys()} == {
        name: locked[name] for name in locked.keys() & tested.keys()
    }
    for requirement in re.split(r"\n(?=[a-z])", path.read_text(), flags=re.IGNORECASE):
        assert "--hash=sha256:" in requirement, requirement[:80]
