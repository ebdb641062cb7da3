"""What somebody did by hand in the folder of a conversion stays, and that is said."""

import gzip
import json
import shutil

import nibabel as nib
import numpy as np
import official_layouts as official
import pandas as pd
import pytest

from data_scripts.convert.face import next_step, run_script
from data_scripts.convert.one_case import work_of_others

NAME = "patient003"


@pytest.fixture
def source(tmp_path):
    """Six patients in ACDC's official layout, the label of one of which holds no segment."""
    folder = official.acdc(tmp_path / "ACDC", n_patients=6)
    path = folder / "training" / NAME / f"{NAME}_frame01_gt.nii.gz"
    image = nib.load(path)
    nib.save(nib.Nifti1Image(np.zeros(image.shape, np.uint8), None, image.header), path)
    return folder


@pytest.fixture
def dest(source, tmp_path, capsys):
    assert convert(source, tmp_path / "out") == 1
    capsys.readouterr()
    return tmp_path / "out"


def convert(source, dest):
    return run_script("acdc", [str(source), str(dest), "--workers", "1"])


def volumes(dest, name):
    """The bytes of a case's volumes, by path."""
    paths = [*dest.glob(f"imagesTr/{name}_*"), *dest.glob(f"labelsTr/{name}.*")]
    return {path: path.read_bytes() for path in paths}


def write_again(path, mark):
    """Write a volume anew, as another program does, so that it is whole and of another size."""
    image = nib.load(path)
    data = np.asarray(image.dataobj)
    image.header["descrip"] = mark
    nib.save(nib.Nifti1Image(data, image.affine, image.header), path)


def test_volumes_of_a_case_that_was_refused_stay(source, dest, capsys):
    for folder, end in (("imagesTr", "_0000"), ("labelsTr", "")):
        shutil.copy(
            dest / folder / f"patient001{end}.nii.gz", dest / folder / f"{NAME}{end}.nii.gz"
        )
    mine = volumes(dest, NAME)
    assert len(mine) == 2
    assert convert(source, dest) == 1
    printed = capsys.readouterr().out
    assert (
        f"problem with {NAME}: {dest}/imagesTr/{NAME}_0000.nii.gz: found a volume of an" in printed
    )
    assert f"or nothing; remove it to convert {NAME}." in printed
    assert volumes(dest, NAME) == mine


def test_a_mended_volume_stays_where_another_of_its_case_was_removed(source, dest, capsys):
    label = dest / "labelsTr/patient001.nii.gz"
    write_again(label, b"mended by hand")
    (dest / "imagesTr/patient001_0000.nii.gz").unlink()
    mended = label.read_bytes()
    assert convert(source, dest) == 1
    assert f"problem with patient001: {label}: found a volume of another" in capsys.readouterr().out
    assert label.read_bytes() == mended
    label.unlink()  # as the sentence says
    assert convert(source, dest) == 1
    assert len(volumes(dest, "patient001")) == 2
    assert "patient001:" not in capsys.readouterr().out


def test_a_mended_volume_that_is_not_read_here_stays_with_a_note(source, dest, capsys):
    label = dest / "labelsTr/patient001.nii.gz"
    content = bytearray(gzip.decompress(label.read_bytes()))
    content[123] = 3  # xyzt_units: microns
    label.write_bytes(gzip.compress(bytes(content) + bytes(999)))
    mended = label.read_bytes()
    assert convert(source, dest) == 1
    assert f"note: {label} is not as it was written, and stays so" in capsys.readouterr().out
    assert label.read_bytes() == mended


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-9], lambda b: b[:-6] + b"!" + b[-5:], lambda b: b""]
)
def test_what_was_cut_short_or_damaged_is_nobodys_work(source, dest, damage):
    label = dest / "labelsTr/patient001.nii.gz"
    whole = label.read_bytes()
    damaged = damage(whole)
    label.write_bytes(damaged + b"?" if len(damaged) == len(whole) else damaged)
    assert work_of_others("patient001", dest) is None
    assert convert(source, dest) == 1
    assert gzip.decompress(label.read_bytes()) == gzip.decompress(whole)


@pytest.mark.parametrize("name", ["cases.csv", "dataset.json"])
def test_an_edited_table_stays_and_a_new_one_comes_beside_it(name, source, dest, capsys):
    path = dest / name
    text = path.read_text()
    path.write_text(text.replace("train", "training") if name == "cases.csv" else text + "\n")
    edited = path.read_text()
    assert edited != text
    said = f"note: {path} is not as it was written, and stays so"
    for _ in range(2):  # nothing new
        assert convert(source, dest) == 1
        assert f"{said}\n" in capsys.readouterr().out
        assert path.read_text() == edited
    shutil.copytree(source / "training/patient001", source / "training/patient007")
    for old in sorted((source / "training/patient007").glob("patient001*")):
        old.rename(old.with_name(old.name.replace("patient001", "patient007")))
    beside = dest / f"new_{name}"
    for _ in range(2):  # until it is taken over
        assert convert(source, dest) == 1
        assert f"{said}; what would be written now is beside it, in new_{name}\n" in (
            capsys.readouterr().out
        )
        assert path.read_text() == edited and beside.exists()
    beside.replace(path)  # taken over
    assert convert(source, dest) == 1
    assert "stays so" not in capsys.readouterr().out
    assert not beside.exists()
    assert "patient007" in set(pd.read_csv(dest / "cases.csv").case)
    assert json.loads((dest / "dataset.json").read_text())["numTraining"] == 6


def test_what_was_written_aside_goes_and_what_somebody_hid_stays(source, dest):
    hidden = dest / "imagesTr/._patient001_0000.nii.gz"  # as macOS leaves on a foreign disk
    hidden.write_bytes(b"Mac OS X")
    claim = dest / ".conversion/.partial-abcdef-12-deadbeef.claim"  # that was being taken
    claim.mkdir()
    volume = dest / "labelsTr/.partial-abcdef-12-patient001.nii.gz"
    volume.write_bytes(b"begun")
    assert convert(source, dest) == 1
    assert len(pd.read_csv(dest / "cases.csv")) == 5
    assert hidden.exists() and not claim.exists() and not volume.exists()


@pytest.mark.parametrize(
    ("splits", "said"),
    [
        ({"test"}, "no case in train and validation: it can serve as an external test set"),
        ({"train", "test"}, "no case in validation: no notebook can open it before"),
        ({"train"}, "no case in validation and test: no notebook can open it before"),
    ],
)
def test_only_what_is_all_for_testing_is_offered_as_a_test_set(splits, said, tmp_path):
    assert next_step(None, splits, tmp_path).startswith(said)
