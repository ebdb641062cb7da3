import csv
import gzip
import hashlib
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import nibabel as nib
import numpy as np
import pytest

from segcal_lite.datasets import load_case, read_dataset, task_of

PROJECT = Path(__file__).resolve().parent.parent
SCRIPT = PROJECT / "data_scripts" / "acdc.py"


def load_script(path):
    """Import a script by its path."""
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


acdc = load_script(SCRIPT)


def volume_bytes(data):
    """Return a NIfTI file whose spacing stands in pixdim alone, as in the official files."""
    image = nib.Nifti1Image(data, None)
    image.header.set_sform(np.eye(4), code=2)
    image.header.set_zooms((1.5, 1.5, 10.0))
    return image.to_bytes()


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """Hold 100 patients in ACDC's official layout, five groups of 20; one has ED at frame 4."""
    folder = tmp_path_factory.mktemp("ACDC") / "training"
    labels = np.zeros((4, 4, 2), dtype=np.uint8)
    labels[:3, 0, 0] = 1, 2, 3
    label_bytes = gzip.compress(volume_bytes(labels), mtime=0)
    for index, patient in enumerate(acdc.PATIENTS):
        place = folder / patient
        place.mkdir(parents=True)
        frame = 4 if index == 89 else 1
        group = list(acdc.GROUPS)[index % 5]
        (place / "Info.cfg").write_text(f"ED: {frame}\nES: 12\nGroup: {group}\nHeight: 180.0\n")
        image = gzip.compress(volume_bytes(np.full((4, 4, 2), index, np.int16)), mtime=0)
        (place / f"{patient}_frame{frame:02d}.nii.gz").write_bytes(image)
        (place / f"{patient}_frame{frame:02d}_gt.nii.gz").write_bytes(label_bytes)
        (place / f"{patient}_frame12.nii.gz").write_bytes(b"end-systole, not used")
        (place / f"{patient}_4d.nii.gz").write_bytes(b"whole cycle, not used")
    return folder


@pytest.fixture(scope="module")
def converted(official):
    """Hold the official patients in the common layout."""
    target = official.parent / "common"
    assert acdc.convert(official, target) is True
    return target


@pytest.fixture
def damaged(official, tmp_path):
    """Hold a copy of the official patients that a test may spoil."""
    return Path(shutil.copytree(official, tmp_path / "training", copy_function=os.link))


def read_rows(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def contents(folder):
    """Return the bytes of each file below a folder."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


@pytest.mark.filterwarnings("ignore:.*pixdim")
def test_acdc_becomes_a_dataset(official, converted):
    dataset = read_dataset(converted, task="heart")
    assert [case.name for case in dataset.cases] == list(acdc.PATIENTS)
    assert dataset.domains == ("source",)
    assert dataset.notes == ()
    assert task_of(dataset, "heart").name == "heart"
    image, labels, affine = load_case(dataset, dataset.cases[89])
    assert np.all(image == 89)
    assert labels[:, 0, 0].tolist() == [1, 2, 3, 0]
    assert np.abs(affine.diagonal()).tolist() == [1.5, 1.5, 10.0, 1.0]


def test_acdc_split_follows_the_groups(converted):
    rows = read_rows(converted / "cases.csv")
    assert list(rows[0]) == ["case", "domain", "split", "group"]
    assert Counter(row["split"] for row in rows) == {"train": 40, "validation": 10, "test": 50}
    for group in acdc.GROUPS:
        splits = Counter(row["split"] for row in rows if row["group"] == group)
        assert splits == {"train": 8, "validation": 2, "test": 10}


def test_acdc_files_are_untouched_and_listed(official, converted):
    names = {"dataset.json", "cases.csv", "checksums.csv"}
    sums = {row["file"]: row for row in read_rows(converted / "checksums.csv")}
    found = contents(converted)
    assert set(found) == names | set(sums)
    assert len(sums) == 200
    for name, row in sums.items():
        assert row["sha256"] == hashlib.sha256(found[name]).hexdigest()
        patient = Path(name).name[:10]
        assert found[name] == (official / patient / row["official_name"]).read_bytes()
    assert sums["imagesTr/patient090_0000.nii.gz"]["official_name"] == "patient090_frame04.nii.gz"
    assert sums["labelsTr/patient090.nii.gz"]["official_name"] == "patient090_frame04_gt.nii.gz"


def test_acdc_again_changes_nothing(official, converted):
    before = contents(converted)
    stamps = {path: path.stat().st_mtime_ns for path in converted.rglob("*")}
    assert acdc.convert(official, converted) is False
    assert contents(converted) == before
    assert {path: path.stat().st_mtime_ns for path in converted.rglob("*")} == stamps


def test_acdc_is_the_same_everywhere(official, converted, tmp_path):
    (tmp_path / "twice.partial").mkdir()
    (tmp_path / "twice.partial" / "rest.txt").write_text("of an interrupted call")
    assert acdc.convert(official.parent, tmp_path / "twice", link=True) is True
    assert contents(tmp_path / "twice") == contents(converted)
    assert [path.name for path in tmp_path.iterdir()] == ["twice"]
    linked = tmp_path / "twice" / "imagesTr" / "patient001_0000.nii.gz"
    assert linked.samefile(official / "patient001" / "patient001_frame01.nii.gz")
    copied = converted / "imagesTr" / "patient001_0000.nii.gz"
    assert not copied.samefile(official / "patient001" / "patient001_frame01.nii.gz")


def test_acdc_seed_draws_another_split(official, converted, tmp_path):
    acdc.convert(official, tmp_path / "other", seed=1, link=True)
    splits = [
        [row["split"] for row in read_rows(folder / "cases.csv")]
        for folder in (converted, tmp_path / "other")
    ]
    assert splits[0] != splits[1]
    with pytest.raises(ValueError, match="cases.csv: found another or no content"):
        acdc.convert(official, tmp_path / "other")


def test_acdc_groups_are_drawn_apart(converted):
    rows = read_rows(converted / "cases.csv")
    patterns = {
        tuple(row["split"] for row in rows if row["group"] == group) for group in acdc.GROUPS
    }
    assert len(patterns) == 5


def test_acdc_refuses_a_foreign_or_spoilt_target(official, tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("keep")
    with pytest.raises(ValueError, match="dataset.json: found another or no content, expected th"):
        acdc.convert(official, tmp_path / "mine")
    assert contents(tmp_path / "mine") == {"notes.txt": b"keep"}
    acdc.convert(official, tmp_path / "spoilt")
    label = tmp_path / "spoilt" / "labelsTr" / "patient007.nii.gz"
    label.write_bytes(label.read_bytes()[:-1])
    with pytest.raises(ValueError, match="patient007.nii.gz: found another or no content, expec"):
        acdc.convert(official, tmp_path / "spoilt")
    label.unlink()
    with pytest.raises(ValueError, match="patient007.nii.gz: found another or no content, expec"):
        acdc.convert(official, tmp_path / "spoilt")


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("Info.cfg", None, "patient050.Info.cfg: found no such file, expected the Info.cfg"),
        ("Info.cfg", "ES: 9\nGroup: NOR\n", "Info.cfg, ED: found no line, expected a frame num"),
        ("Info.cfg", "ED: 1/../2\nGroup: NOR\n", "Info.cfg, ED: found 1/../2, expected a frame"),
        ("Info.cfg", "ED: 1\n", "Info.cfg, Group: found no line, expected one of DCM, HCM"),
        ("Info.cfg", "ED: 1\nGroup: ABC\n", "Info.cfg, Group: found ABC, expected one of DCM"),
        ("Info.cfg", "ED: 7\nGroup: NOR\n", "_frame07.nii.gz: found no such file, expected end"),
        ("patient050_frame01.nii.gz", None, "050_frame01.nii.gz: found no such file, expected"),
        ("patient050_frame01_gt.nii.gz", None, "_frame01_gt.nii.gz: found no such file, expec"),
    ],
)
def test_acdc_incomplete_source(damaged, tmp_path, name, text, message):
    path = damaged / "patient050" / name
    path.unlink()  # a hard link: never written through
    if text is not None:
        path.write_text(text)
    with pytest.raises(ValueError, match=message):
        acdc.convert(damaged, tmp_path / "target")
    assert [path.name for path in tmp_path.iterdir()] == ["training"]


def test_acdc_missing_source(tmp_path):
    with pytest.raises(ValueError, match="none: found no such folder, expected the ACDC training"):
        acdc.convert(tmp_path / "none", tmp_path / "target")
    with pytest.raises(ValueError, match="patient001.Info.cfg: found no such file"):
        acdc.convert(tmp_path, tmp_path / "target")


def run_script(*arguments):
    """Run the script as people do, without an installed package."""
    environment = os.environ | {"PYTHONPATH": str(PROJECT)}
    command = [sys.executable, str(SCRIPT), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


def test_acdc_command_line(official, converted, tmp_path):
    run = run_script(official, tmp_path / "target", "--link", "--seed", "2020")
    assert run.returncode == 0, run.stderr
    checksums = (tmp_path / "target" / "checksums.csv").read_bytes()
    assert hashlib.sha256(checksums).hexdigest() in run.stdout
    assert "target: written." in run.stdout
    assert contents(tmp_path / "target") == contents(converted)


def test_acdc_command_line_says_what_is_wrong(tmp_path):
    run = run_script(tmp_path / "none", tmp_path / "target")
    assert run.returncode == 1
    expected = "found no such folder, expected the ACDC training folder.\n"
    assert run.stderr == f"{tmp_path / 'none'}: {expected}"


@pytest.mark.filterwarnings("ignore:.*pixdim")
def test_acdc_real_data(tmp_path, real_data):
    if (real_data / "ACDC").stat().st_dev != tmp_path.stat().st_dev:
        pytest.skip("hard links need SEGCAL_REAL_DATA and the temporary folder on one file system")
    acdc.convert(real_data / "ACDC", tmp_path / "heart", link=True)
    dataset = read_dataset(tmp_path / "heart", task="heart")
    sizes = [len(dataset.of(split)) for split in ("train", "validation", "test")]
    assert sizes == [40, 10, 50]
    rows = read_rows(tmp_path / "heart" / "cases.csv")
    balance = Counter((row["group"], row["split"]) for row in rows)
    for group in acdc.GROUPS:
        assert [balance[group, s] for s in ("train", "validation", "test")] == [8, 2, 10]
    for case in dataset.cases[::25]:
        _, labels, affine = load_case(dataset, case)
        assert set(np.unique(labels)) == {0, 1, 2, 3}
        spacing_mm = nib.affines.voxel_sizes(affine)
        assert 0.5 < spacing_mm[0] == spacing_mm[1] < 2.5
        assert 4 < spacing_mm[2] <= 10
    description = json.loads((tmp_path / "heart" / "dataset.json").read_text())
    assert description["numTraining"] == len(dataset.cases)
