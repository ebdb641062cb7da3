import os
import subprocess
import sys
import time

import pandas as pd
import pytest

from segcal_lite import runs


def test_a_failed_write_leaves_the_old_file_and_nothing_beside_it(tmp_path):
    path = tmp_path / "note.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError), runs.written_aside(path) as partial:
        partial.write_text("half")
        raise RuntimeError
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_the_temporary_name_keeps_the_suffix(tmp_path):
    with runs.written_aside(tmp_path / "volume.nii.gz") as partial:
        assert partial.name.endswith(".nii.gz")
        assert partial.parent == tmp_path
        partial.touch()


def test_other_settings_are_named_field_by_field(tmp_path):
    path = tmp_path / "run.json"
    runs.write_json(path, {"seed": 0, "profile": "smoke", "crop_size": (64, 64), "old": 1})
    runs.check_same_settings(path, {"seed": 0, "profile": "smoke", "crop_size": (64, 64), "old": 1})
    with pytest.raises(ValueError) as error:
        runs.check_same_settings(path, {"seed": 1, "profile": "smoke", "crop_size": (64, 64)})
    message = str(error.value)
    assert message.startswith(f"{path}: found other settings")
    assert "seed = 0 (now 1)" in message
    assert "old = 1 (now 'nothing')" in message
    assert "profile =" not in message
    assert "crop_size" not in message


def test_a_broken_json_file_is_named(tmp_path):
    path = tmp_path / "run.json"
    path.write_text("{")
    with pytest.raises(ValueError, match=f"{path}: found text that is no JSON"):
        runs.read_json(path)


def test_tables_come_back_as_they_went(tmp_path):
    table = pd.DataFrame({"case": ["a", "b"], "value": [0.1, 1 / 3]})
    runs.write_table(tmp_path / "tables" / "scores.csv", table)
    pd.testing.assert_frame_equal(pd.read_csv(tmp_path / "tables" / "scores.csv"), table)


def test_relative_paths_start_at_the_project_root_wherever_the_kernel_does(tmp_path, monkeypatch):
    before = runs.resolve_path("runs/demo")
    monkeypatch.chdir(tmp_path)
    assert runs.resolve_path("runs/demo") == before
    assert runs.resolve_path(tmp_path / "x") == tmp_path / "x"


def test_model_folders_differ_by_network_loss_dropout_and_seed(tmp_path):
    folders = {
        runs.model_folder(tmp_path, network, loss, seed, dropout)
        for network in ("unet2d", "unet3d")
        for loss in ("ce", "dice")
        for seed in (0, 1)
        for dropout in (0.0, 0.5)
    }
    assert len(folders) == 16


HOLD_THE_LOCK = """
import sys, time
from segcal_lite.runs import run_lock
with run_lock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(0.5)
"""


def test_a_second_process_waits_for_its_turn(tmp_path):
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD_THE_LOCK, str(tmp_path)], stdout=subprocess.PIPE
    )
    holder.stdout.readline()
    started = time.monotonic()
    with runs.run_lock(tmp_path):
        assert time.monotonic() - started > 0.2
        assert holder.wait() == 0


def test_provenance_says_commit_and_hardware():
    record = runs.provenance()
    assert set(record) == {"date", "commit", "python", "torch", "device", "processor"}
    assert all(record.values())
    assert f"{os.cpu_count()} cores" in record["processor"]


def test_a_run_that_goes_on_at_another_commit_records_both(tmp_path, monkeypatch):
    path, made = tmp_path / "provenance.json", runs.provenance()
    for commit in ("one", "one", "two", "one", "two", "three"):
        monkeypatch.setattr(runs, "provenance", lambda device, c=commit: made | {"commit": c})
        runs.record_provenance(path, "cpu")
    assert runs.read_json(path) == made | {"commit": "one", "later_commits": ["two", "three"]}
