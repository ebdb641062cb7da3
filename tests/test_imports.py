"""What is loaded when: MONAI by what draws or blends blocks, a room's face needs nothing."""

import subprocess
import sys

import pytest

import segcal_lite.data
import segcal_lite.experiments
import segcal_lite.report
import segcal_lite.runs
import segcal_lite.training
from segcal_lite.runs.folders import project_root

ROOMS = (
    *(segcal_lite.data, segcal_lite.training, segcal_lite.experiments),
    *(segcal_lite.report, segcal_lite.runs),
)


def loaded_by(statement, python=(sys.executable,)):
    """Names of the modules that a fresh Python has loaded after a statement."""
    code = f"{statement}\nimport sys\nprint(*sys.modules)"
    told = subprocess.run(
        [*python, "-c", code], cwd=project_root(), capture_output=True, text=True, check=True
    )
    return set(told.stdout.split())


def test_monai_is_loaded_by_the_first_block():
    modules = (
        *("training.members", "training.on_slices", "training.on_blocks", "sliding_window"),
        *("experiments.case_scores", "experiments.many_sets", "experiments.trials"),
    )
    assert "monai" not in loaded_by(f"import {', '.join(f'segcal_lite.{m}' for m in modules)}")


def test_dask_is_not_loaded_unless_it_is_asked_for():
    statement = "import segcal_lite.experiments.one_dataset, segcal_lite.experiments.many_sets"
    assert not {"dask", "distributed"} & loaded_by(statement)


def test_numba_is_loaded_by_the_first_score_and_torch_by_none():
    chapters = ("calibration", "ensembles", "entropy", "segmentation_metrics")
    imports = ", ".join(f"segcal_lite.{name}" for name in chapters)
    assert not {"numba", "torch"} & loaded_by(f"import {imports}")


@pytest.mark.parametrize("room", ROOMS, ids=lambda room: room.__name__)
def test_a_rooms_face_hands_on_what_it_names_and_loads_it_when_asked(room):
    assert room.__all__ and all(getattr(room, name) is not None for name in room.__all__)
    assert set(dir(room)) >= set(room.__all__)
    assert not {"torch", "monai", "pandas", "matplotlib"} & loaded_by(f"import {room.__name__}")


def test_the_command_line_tells_its_commands_before_anything_is_installed():
    loaded = loaded_by("import segcal_lite.kit.environment", (sys.executable, "-S"))
    assert "numpy" not in loaded and "lazy_loader" not in loaded


NAMELESS = """
import os, pwd
for name in ("HOME", "LOGNAME", "USER", "LNAME", "USERNAME"):
    os.environ.pop(name, None)
def unknown(uid):
    raise KeyError(f"getpwuid(): uid not found: {uid}")
pwd.getpwuid = unknown
"""


@pytest.mark.skipif(sys.platform == "win32", reason="users of POSIX")
def test_a_user_without_name_and_home_gets_both():
    """In a container that runs under any number; MONAI asks for the name when it is imported."""
    asks = "import segcal_lite, getpass, pathlib\nassert getpass.getuser() and pathlib.Path.home()"
    assert "segcal_lite" in loaded_by(NAMELESS + asks)
