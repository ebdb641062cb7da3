"""Pairs by CSV: what the table may say, and what a second conversion does with changes."""

import gzip
import json
import os

import nibabel as nib
import numpy as np
import pandas as pd
import pytest

from data_scripts.convert import one_case
from data_scripts.convert.face import run_script

CLASSES = ("--classes", "liver=1", "tumour=2")


def write_pair(folder, index, **changes):
    """Write an image and its label; return the cells of its row."""
    rng = np.random.default_rng(index)
    image = changes.get("image", rng.normal(size=(8, 9, 4)))
    labels = np.zeros((8, 9, 4), np.uint8)
    labels[1:4, 2:5, 1], labels[5:7, 2 : 4 + index, 2] = 1, 2
    for name, array in (("i", image), ("l", labels)):
        nib.save(nib.Nifti1Image(array, np.eye(4)), folder / f"{name}{index}.nii.gz")
    return [f"c{index}", f"i{index}.nii.gz", f"l{index}.nii.gz"]


@pytest.fixture
def table(tmp_path):
    """A function that writes the table of three pairs, each its own patient, and converts it."""
    source = tmp_path / "in"
    source.mkdir()
    rows = [write_pair(source, index) for index in range(3)]

    def convert(header="case,image:T1,label", *extra, classes=CLASSES):
        cells = [row + list(more) for row, more in zip(rows, extra or [[]] * 3, strict=True)]
        lines = [header, *map(",".join, cells)]
        (source / "pairs.csv").write_text("\n".join(lines) + "\n")
        return run_script("pairs", [str(source), str(tmp_path / "out"), "--workers", "1", *classes])

    return convert


def test_columns_in_capitals_are_known_and_others_are_told(table, tmp_path, capsys):
    extra = [["p0", "train", "9"], ["p1", "val", "8"], ["p2", "test", "7"]]
    assert table("Case,image:T1,Label,Patient,SPLIT,age", *extra) == 0
    cases = pd.read_csv(tmp_path / "out/cases.csv")
    assert cases.patient.tolist() == ["p0", "p1", "p2"]
    assert cases.split.tolist() == ["train", "validation", "test"]
    assert "pairs.csv: columns age say nothing here; known are case" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("header", "classes", "sentence"),
    [
        ("case,image:,label", CLASSES, "found a column image:, expected a name behind it"),
        (
            "case,image:T1,label",
            ("--classes", "ignore=1", "b=2"),
            "--classes, labels, ignore: found",
        ),
        ("case,image:T1,label", ("--classes", "all=1", "b=2"), "--classes, labels: found 'all'"),
    ],
)
def test_what_nothing_could_open_is_not_written(table, tmp_path, capsys, header, classes, sentence):
    assert table(header, classes=classes) == 1
    assert sentence in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_names_that_could_be_those_of_channels_are_refused(tmp_path, capsys):
    rows = [write_pair(tmp_path, index) for index in range(3)]
    rows[1][0] = "c0_0000"
    lines = ["case,image:T1,label", *map(",".join, rows)]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    assert run_script("pairs", [str(tmp_path), str(tmp_path / "out"), *CLASSES]) == 1
    assert "found c0_0000 beside c0, expected one of the two called" in capsys.readouterr().err


@pytest.mark.parametrize(
    "change",
    [
        {"classes": ("--classes", "tumour=2", "liver=1")},
        {"classes": ("--classes", "liver=2", "tumour=1")},
        {"header": "case,image:T2,label"},
    ],
)
def test_another_meaning_of_the_numbers_is_refused(table, tmp_path, capsys, change):
    """Else dataset.json would change, and the volumes beside it would not."""
    assert table() == 0
    before = (tmp_path / "out/dataset.json").read_bytes()
    assert table(**change) == 1
    assert "conversion.json: found other settings" in capsys.readouterr().err
    assert (tmp_path / "out/dataset.json").read_bytes() == before


@pytest.mark.parametrize(
    ("column", "change"),
    [("patient", "q"), ("domain", "hospital"), ("split", "test"), ("spacing_mm", "1x1x1")],
)
def test_what_the_table_says_otherwise_than_before_is_told(table, capsys, column, change):
    before = {"patient": "pqr", "domain": ["a", "a", "b"], "split": ["train", "val", "test"]}
    values = list(before.get(column, ["", "", ""]))
    header = f"case,image:T1,label,{column}"
    assert table(header, *([value] for value in values)) == 0
    assert table(header, *([value] for value in values)) == 0  # nothing has changed
    if column == "patient":
        values[1] = "s"
    else:
        values[0] = change
    if column == "split":
        values[2] = "train"
    capsys.readouterr()
    assert table(header, *([value] for value in values)) == 1
    printed = capsys.readouterr().out
    assert f"{column} of c{1 if column == 'patient' else 0}: found" in printed
    assert "to convert it anew" in printed


def test_what_people_put_beside_or_mended_stays(table, tmp_path, capsys):
    assert table() == 0
    out = tmp_path / "out"
    before = (out / "cases.csv").read_bytes()
    (out / "imagesTr/extra_0000.nii.gz").write_bytes(b"mine")
    (out / "labelsTr/extra.nii.gz").write_bytes(b"mine")
    mended = np.zeros((8, 9, 4), np.uint8)
    mended[::2] = 2
    nib.save(nib.Nifti1Image(mended, np.eye(4)), out / "labelsTr/c1.nii.gz")
    capsys.readouterr()
    assert table() == 0
    assert "c1.nii.gz is not as it was written, and stays so; rem" in capsys.readouterr().out
    assert (np.asarray(nib.load(out / "labelsTr/c1.nii.gz").dataobj) == mended).all()
    assert (out / "imagesTr/extra_0000.nii.gz").read_bytes() == b"mine"
    assert (out / "labelsTr/extra.nii.gz").read_bytes() == b"mine"
    assert (out / "cases.csv").read_bytes() == before
    (out / "labelsTr/c1.nii.gz").unlink()
    assert table() == 0
    assert not (np.asarray(nib.load(out / "labelsTr/c1.nii.gz").dataobj) == mended).all()


def test_a_conversion_that_was_killed_while_it_made_a_case_anew_goes_on(
    table, tmp_path, monkeypatch
):
    assert table() == 0
    (tmp_path / "out/labelsTr/c1.nii.gz").unlink()
    write, written = one_case.write_volume, []

    def killed(path, *arguments):
        if written:
            os._exit(9)
        written.append(write(path, np.zeros((8, 9, 4), np.float32), np.eye(4)))

    child = os.fork()
    if not child:
        monkeypatch.setattr(one_case, "write_volume", killed)
        table()
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9
    assert table() == 0
    assert np.asarray(nib.load(tmp_path / "out/imagesTr/c1_0000.nii.gz").dataobj).any()


def of_an_earlier_version(out):
    """Take away what the first versions did not keep."""
    path = out / "conversion.json"
    kept = json.loads(path.read_text())
    for name in ("channels", "segments", "labels_from"):
        del kept[name]
    path.write_text(json.dumps(kept))
    for path in (out / ".conversion").glob("*.json"):
        record = json.loads(path.read_text())
        record.pop("stated", None)
        path.write_text(json.dumps(record))


def test_conversions_of_earlier_versions_go_on_and_are_protected_alike(table, tmp_path, capsys):
    assert table() == 0
    of_an_earlier_version(tmp_path / "out")
    assert table() == 0
    of_an_earlier_version(tmp_path / "out")
    assert table(classes=("--classes", "tumour=2", "liver=1")) == 1
    assert "conversion.json: found other settings" in capsys.readouterr().err
    assert table("case,image:T2,label") == 1
    assert table("case,image:T1,label,domain", ["a"], ["a"], ["a"]) == 1
    assert "domain of c0: found a, expected what it was" in capsys.readouterr().out
    assert table() == 0


def test_drawn_splits_may_be_written_into_the_table_and_taken_out(table, tmp_path):
    assert table() == 0
    splits = pd.read_csv(tmp_path / "out/cases.csv").split
    assert table("case,image:T1,label,split", *([name] for name in splits)) == 0
    assert table() == 0


@pytest.mark.parametrize(
    ("column", "values", "found"),
    [
        ("domain", ["all", "b", "b"], "domain: found 'all'"),
        ("domain", ["s", "S", "s"], "domain: found 's' and 'S'"),
        ("patient", ["p", "P", "q"], "patient: found 'p' and 'P'"),
    ],
)
def test_names_that_no_reader_takes_are_refused(table, tmp_path, capsys, column, values, found):
    assert table(f"case,image:T1,label,{column}", *([name] for name in values)) == 1
    assert found in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_columns_that_are_twice_in_small_letters_are_refused(table, capsys):
    assert table("case,image:T1,label,Split,split", *([["train"] * 2] * 3)) == 1
    assert "pairs.csv: found columns case, image:T1, label, split, split" in capsys.readouterr().err


def test_empty_columns_of_a_spreadsheet_are_not_told(table, capsys):
    assert table("case,image:T1,label,,", *([["", ""]] * 3)) == 0
    assert "say nothing here" not in capsys.readouterr().out


def test_what_was_cut_short_is_converted_again(table, tmp_path):
    assert table() == 0
    label = tmp_path / "out/labelsTr/c1.nii.gz"
    whole = label.read_bytes()
    label.write_bytes(whole[: len(whole) // 2])
    assert table() == 0
    assert gzip.decompress(label.read_bytes()) == gzip.decompress(whole)


def test_voxels_that_float32_cannot_hold_are_refused(tmp_path, capsys):
    image = np.full((8, 9, 4), -1.797e308)
    rows = [write_pair(tmp_path, index, image=image) for index in range(3)]
    lines = ["case,image:T1,label", *map(",".join, rows)]
    (tmp_path / "pairs.csv").write_text("\n".join(lines))
    assert run_script("pairs", [str(tmp_path), str(tmp_path / "out"), *CLASSES]) == 1
    assert "i0.nii.gz: found 288 NaN or infinite values" in capsys.readouterr().out


def test_files_that_changed_places_are_read_again(tmp_path, capsys):
    """As large and as old as each other, which archives and copies leave so."""
    rows = [write_pair(tmp_path, index) for index in range(3)]
    labels = []
    for index, value in enumerate((1, 2)):
        data = np.full((8, 9, 4), value, np.uint8)
        path = tmp_path / f"m{index}.nii"
        nib.save(nib.Nifti1Image(data, np.eye(4)), path)
        labels.append(path.name)
        rows[index][2] = path.name
    first = (tmp_path / "m0.nii").stat()
    os.utime(tmp_path / "m1.nii", ns=(first.st_atime_ns, first.st_mtime_ns))
    os.utime(tmp_path / "m0.nii", ns=(first.st_atime_ns, first.st_mtime_ns))

    def convert():
        lines = ["case,image:T1,label", *map(",".join, rows)]
        (tmp_path / "pairs.csv").write_text("\n".join(lines))
        return run_script("pairs", [str(tmp_path), str(tmp_path / "out"), *CLASSES])

    assert convert() == 0
    rows[0][2], rows[1][2] = labels[::-1]
    assert convert() == 1
    assert "m1.nii: found another content" in capsys.readouterr().out


def test_a_file_is_no_destination(table, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert table() == 1
    assert "out: found a file, expected a new folder" in capsys.readouterr().err
