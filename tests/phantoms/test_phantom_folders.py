import subprocess
import sys

import pytest

from data_scripts.phantoms.__main__ import main
from data_scripts.phantoms.folders import dataset_folder, sets_folder, write_set
from segcal_lite.data.datasets import read_dataset
from segcal_lite.data.sets import read_sets
from segcal_lite.data.volumes import read_volume
from segcal_lite.runs.folders import project_root


def test_data_of_ones_own_stay_as_they_are(tmp_path):
    assert dataset_folder(tmp_path, None, tmp_path / "run") == (tmp_path, None)
    assert sets_folder(tmp_path / "sets.yaml", None, tmp_path / "run") == tmp_path / "sets.yaml"
    assert list(tmp_path.iterdir()) == []


def test_the_word_phantoms_becomes_a_folder_in_the_run(tmp_path):
    folder, task = dataset_folder("phantoms", None, tmp_path)
    assert (folder, task) == (tmp_path / "phantoms", "heart")
    dataset = read_dataset(folder)
    splits = [(case.domain, case.split) for case in dataset.cases]
    counts = [splits.count(group) for group in dict.fromkeys(splits)]
    assert counts == [16, 6, 16, 16]
    stamps = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    assert dataset_folder("phantoms", "heart", tmp_path) == (folder, task)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == stamps
    with pytest.raises(ValueError, match="phantoms with seed = 0, expected seed = 1"):
        dataset_folder("phantoms", None, tmp_path, seed=1)
    with pytest.raises(ValueError, match="task: found 'liver', expected one of 'brain'"):
        dataset_folder("phantoms", "liver", tmp_path)


def test_phantoms_fill_the_crop(tmp_path):
    folder, _ = dataset_folder("phantoms", "prostate_3d", tmp_path, crop_size=(16, 32, 16))
    volume = read_volume(next((folder / "imagesTr").iterdir()))
    assert volume.data.shape == (16, 32, 16)
    assert volume.spacing_mm == pytest.approx((3.0, 3.0, 3.0))


def test_sets_are_written_when_they_are_wanted(tmp_path):
    folder = sets_folder("phantoms", ("liver_ct",), tmp_path)
    assert [path.name for path in folder.iterdir()] == ["liver_ct"]
    sets_folder("phantoms", ("atrium", "liver_ct"), tmp_path)
    sets = read_sets(folder)
    assert {name: source.task.intensity_rule for name, source in sets.items()} == {
        "atrium": "standard_deviation",
        "liver_ct": "hounsfield",
    }
    assert {source.task.spacing_mm for source in sets.values()} == {(3.75, 3.75, 3.75)}
    assert all(len(source.dataset.cases) == 14 for source in sets.values())
    with pytest.raises(ValueError, match="set: found 'kidney'"):
        sets_folder("phantoms", ("kidney",), tmp_path)
    with pytest.raises(ValueError, match="profile: found 'tiny'"):
        write_set(tmp_path / "x", "liver_ct", "tiny")


def test_the_command_writes_says_how_to_go_on_and_refuses_in_one_sentence(tmp_path, capsys):
    assert main(["hippocampus", str(tmp_path / "h")]) == 0
    said = capsys.readouterr().out
    assert "14 phantoms, hippocampus, profile smoke, seed 0" in said
    assert f"--data {tmp_path / 'h'} --profile smoke" in said
    assert main(["hippocampus", str(tmp_path / "h"), "--seed", "2"]) == 1
    assert capsys.readouterr().err.count("\n") == 1
    assert main(["kidney", str(tmp_path / "k")]) == 1
    assert not (tmp_path / "k").exists()
    assert main(["atrium", str(tmp_path / "a"), "--images", "5"]) == 0
    assert "5 phantoms, atrium" in capsys.readouterr().out
    assert main(["atrium", str(tmp_path / "a0"), "--images", "0"]) == 1
    assert "n_images: found 0, expected an integer of at least 3" in capsys.readouterr().err
    assert main(["heart", str(tmp_path / "w"), "--images", "5"]) == 1
    assert "--images: found 5, expected none with heart" in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_the_command_runs_as_a_script():
    script = [sys.executable, "-m", "data_scripts.phantoms", "--help"]
    told = subprocess.run(script, cwd=project_root(), capture_output=True, text=True, check=True)
    assert "heart" in told.stdout
