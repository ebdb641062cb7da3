"""Patients with the same image end up in one split, whatever was drawn or converted before."""

import itertools
import shutil
import time
from dataclasses import replace

import official_layouts as official
import pytest

from data_scripts import acdc, pairs
from data_scripts.convert import splits
from data_scripts.convert.cases import Found, SourceCase
from data_scripts.convert.face import run_script
from data_scripts.convert.splits import together
from segcal_lite.data.datasets import read_dataset

IMAGE = "training/patient{0:03d}/patient{0:03d}_frame01.nii.gz"


@pytest.fixture
def hundred(tmp_path):
    """100 patients whose files differ in one byte, never opened as volumes."""
    for number in range(1, 101):
        place = tmp_path / IMAGE.format(number)
        place.parent.mkdir(parents=True)
        place.write_bytes(f"voxels of {number:03d}".encode())
        place.with_name(place.name.replace(".nii", "_gt.nii")).write_bytes(b"labels")
        info = f"ED: 1\nES: 12\nGroup: {acdc.GROUPS[number % 5]}\n"
        (place.parent / "Info.cfg").write_text(info)
    return tmp_path


def test_different_images_move_nobody(hundred):
    found = acdc.find(hundred)
    assert together(found, {}) == (found, [])


def test_patients_of_one_image_join_in_the_smaller_split_and_no_other_moves(hundred):
    shutil.copy(hundred / IMAGE.format(2), hundred / IMAGE.format(7))
    pair, n_moved = {"patient002", "patient007"}, 0
    for seed in range(12):
        found = acdc.find(hundred, seed=seed)
        moved, lines = together(found, {})
        before = {found.split_of[patient] for patient in pair}
        smaller = next(s for s in ("validation", "train", "test") if s in before)
        assert moved.split_of == found.split_of | dict.fromkeys(pair, smaller)
        assert len(lines) == len(before) - 1
        n_moved += len(lines)
    assert 0 < n_moved < 12


def test_who_was_converted_stays_and_draws_the_others_along(hundred):
    shutil.copy(hundred / IMAGE.format(2), hundred / IMAGE.format(7))
    found = acdc.find(hundred)
    for kept in ("train", "validation", "test"):
        found = replace(found, split_of=found.split_of | {"patient007": kept})
        moved, _ = together(found, {"patient007": {"patient": "patient007"}})
        assert moved.split_of["patient007"] == moved.split_of["patient002"] == kept


def test_the_only_patient_of_a_split_is_not_moved_away(hundred):
    found = acdc.find(hundred)
    few = replace(found, cases=found.cases[:5])
    names = [case.patient for case in few.cases]
    shutil.copy(*(hundred / IMAGE.format(int(name[-3:])) for name in (names[0], names[4])))
    splits = dict(zip(names, ("train", "train", "test", "test", "validation"), strict=True))
    moved, _ = together(replace(few, split_of=splits), {})
    assert moved.split_of == splits | {names[0]: "validation"}


def write_pairs(folder, columns, rows):
    """Write pairs whose voxels lie beside headers that are all alike."""
    for name in "abcdef":
        (folder / name).mkdir(exist_ok=True)
        (folder / name / "t2.mhd").write_text("ElementDataFile = t2.raw\n")
        (folder / name / "t2.raw").write_bytes(name.encode())
    lines = [columns, *(f"{n},{n}/t2.mhd,{n}/t2.mhd{more}" for n, more in rows.items())]
    (folder / "pairs.csv").write_text("\n".join(lines) + "\n")
    return folder / "pairs.csv"


def test_headers_that_are_alike_do_not_make_one_image_of_two(tmp_path):
    path = write_pairs(tmp_path, "case,image:T2,label", dict.fromkeys("abcdef", ""))
    found = pairs.find(path, classes=["organ=1"])
    assert together(found, {}) == (found, [])
    shutil.copy(tmp_path / "a/t2.raw", tmp_path / "b/t2.raw")
    split_of = together(found, {})[0].split_of
    assert split_of["a"] == split_of["b"]


def test_splits_of_the_callers_own_table_are_left_alone(tmp_path):
    splits = dict(zip("abcdef", (",train", ",test", ",test") * 2, strict=True))
    splits["f"] = ",validation"
    path = write_pairs(tmp_path, "case,image:T2,label,split", splits)
    shutil.copy(tmp_path / "a/t2.raw", tmp_path / "b/t2.raw")
    found = pairs.find(path, classes=["organ=1"])
    assert together(found, {}) == (found, [])


def test_a_conversion_says_who_moved_also_when_nothing_is_written(tmp_path, capsys):
    source = official.acdc(tmp_path / "ACDC", n_patients=6)
    split_of = acdc.find(source).split_of
    ends = [n for n in (3, 4, 5, 6) if split_of[f"patient{n:03d}"] != split_of["patient001"]]
    for end in ("", "_gt"):  # so that they share a grid, too
        paths = [source / IMAGE.format(n).replace(".nii", f"{end}.nii") for n in (1, ends[0])]
        shutil.copy(*paths)
    for options, expected in (["--dry-run"], True), ([], True), ([], False):
        assert run_script("acdc", [str(source), str(tmp_path / "out"), *options]) == 0
        assert ("has the same image as patient" in capsys.readouterr().out) == expected
    splits = {case.name: case.split for case in read_dataset(tmp_path / "out").cases}
    assert splits["patient001"] == splits[f"patient{ends[0]:03d}"]
    assert set(splits.values()) == {"train", "validation", "test"}


def test_a_large_source_takes_no_longer_for_each_patient(monkeypatch):
    """Twenty thousand patients, half of them with one blank image."""
    names = [f"p{number:05d}" for number in range(20_000)]
    blank = names[::2]
    monkeypatch.setattr(splits, "same_images", lambda paths_of: [tuple(blank)])
    cases = tuple(SourceCase(name=name, patient=name) for name in names)
    split_of = dict(zip(names, itertools.cycle(["train", "train", "test", "train"])))
    found = Found(None, (), (), {}, cases, split_of, {})
    started = time.process_time()
    moved, lines = together(found, {})
    assert time.process_time() - started < 2
    assert {moved.split_of[name] for name in blank} == {"test"}
    assert len(lines) == 5000
    first = "p00000 has the same image as p00002 and p00004 and p00006 and 9996 more, and joins"
    assert lines[0] == f"{first} in test"
    assert len(max(lines, key=len)) < 100
