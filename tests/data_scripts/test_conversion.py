"""What goes wrong with sources: named, the good cases kept, nothing half-written, and resumed."""

import errno
import io
import json
import os
import shlex
import shutil
import signal
import struct
import subprocess
import sys
import time
import zlib
from pathlib import Path

import nibabel as nib
import numpy as np
import official_layouts as official
import pandas as pd
import psutil
import pydicom
import pytest

from data_scripts import chaos, check, feta, pairs, promise12, prostatex
from data_scripts.convert import one_case
from data_scripts.convert.face import run_script
from data_scripts.convert.reading import read_picture, read_series, turned_like
from segcal_lite.data.datasets import read_dataset
from segcal_lite.data.volumes import Volume
from segcal_lite.runs.folders import project_root

NAME = "patient003"


@pytest.fixture
def source(tmp_path):
    """Six patients in ACDC's official layout."""
    return official.acdc(tmp_path / "ACDC", n_patients=6)


def run(script, source, dest, *options, workers=1):
    return run_script(
        script, [str(source), str(dest), "--workers", str(workers), *map(str, options)]
    )


def frame(source, patient=NAME, end=""):
    return source / "training" / patient / f"{patient}_frame01{end}.nii.gz"


def assert_only_whole_cases(dest, expected):
    """Volumes, table and records agree, and nothing else lies there."""
    names = {path.name.removesuffix(".nii.gz") for path in (dest / "labelsTr").iterdir()}
    images = {path.name.rpartition("_")[0] for path in (dest / "imagesTr").iterdir()}
    records = {path.stem for path in (dest / ".conversion").glob("*.json")}
    assert records == {path.stem for path in (dest / ".conversion").glob("*.npz")}
    assert names == images == records == set(expected)
    assert set(pd.read_csv(dest / "cases.csv").case) == set(expected)
    for path in dest.rglob("*.nii.gz"):
        nib.load(path).get_fdata()  # whole


def others(n=6, without=(NAME,)):
    return [f"patient{k:03d}" for k in range(1, n + 1) if f"patient{k:03d}" not in without]


def replace_volume(path, change):
    """Rewrite a NIfTI file with other voxels or another affine."""
    image = nib.load(path)
    data, affine = change(np.asarray(image.dataobj), image.affine.copy())
    changed = nib.Nifti1Image(data, affine)
    changed.header.set_zooms(image.header.get_zooms())
    changed.header.set_sform(affine, code=2)
    nib.save(changed, path)


def with_nan(data, affine):
    data = data.astype(np.float32)
    data[0, 0, 0] = np.nan
    return data, affine


FAULTS = {
    "missing label": (lambda s: frame(s, end="_gt").unlink(), "_gt.nii.gz"),
    "no Info.cfg": (lambda s: (frame(s).parent / "Info.cfg").unlink(), "Info.cfg"),
    "unreadable": (
        lambda s: frame(s).write_bytes(frame(s).read_bytes()[:200]),
        "expected a whole NIfTI file",
    ),
    "no gzip": (lambda s: frame(s, end="_gt").write_bytes(b"text"), "frame01_gt.nii.gz: found"),
    "other grids": (
        lambda s: replace_volume(frame(s, end="_gt"), lambda d, a: (d[:-1], a)),
        "expected one shape",
    ),
    "unknown label": (
        lambda s: replace_volume(frame(s, end="_gt"), lambda d, a: (np.where(d == 3, 9, d), a)),
        "found label values [9], expected only [0, 1, 2, 3]",
    ),
    "empty label": (
        lambda s: replace_volume(frame(s, end="_gt"), lambda d, a: (d * 0, a)),
        "no voxel of any segment",
    ),
    "NaN": (lambda s: replace_volume(frame(s), with_nan), "NaN or infinite"),
}


@pytest.mark.parametrize(
    ("fault", "workers"),
    [*((fault, 1) for fault in FAULTS), ("unreadable", 2), ("missing label", 2)],
)
def test_a_bad_case_is_named_and_the_good_ones_are_kept(source, tmp_path, capsys, fault, workers):
    spoil, message = FAULTS[fault]
    spoil(source)
    assert run("acdc", source, tmp_path / "out", workers=workers) == 1
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("problem with"))
    assert NAME in line
    assert message in line
    assert "5 complete" in printed
    assert_only_whole_cases(tmp_path / "out", others())


def test_a_repaired_case_joins_and_moves_no_other(source, tmp_path):
    kept = frame(source, end="_gt").read_bytes()
    frame(source, end="_gt").unlink()
    assert run("acdc", source, tmp_path / "out") == 1
    before = pd.read_csv(tmp_path / "out/cases.csv").set_index("case").split
    frame(source, end="_gt").write_bytes(kept)
    assert run("acdc", source, tmp_path / "out") == 0
    after = pd.read_csv(tmp_path / "out/cases.csv").set_index("case").split
    assert before.equals(after.drop(NAME))
    assert_only_whole_cases(tmp_path / "out", others(without=()))


def test_a_patient_with_one_frame(source, tmp_path, capsys):
    frame(source, end="_gt").with_name(f"{NAME}_frame12_gt.nii.gz").unlink()
    assert run("acdc", source, tmp_path / "out", "--frames", "both") == 1
    assert f"problem with {NAME}_ES: no such file" in capsys.readouterr().out
    assert len(pd.read_csv(tmp_path / "out/cases.csv")) == 11


def test_a_missing_sequence(tmp_path, capsys):
    source = official.brats2017(tmp_path)
    patient = "Brats17_TCIA_105_1"
    next(source.rglob(f"{patient}_t2.nii.gz")).unlink()
    assert run("brats2017", source, tmp_path / "out") == 1
    printed = capsys.readouterr().out
    assert f"problem with {patient}: no such file" in printed
    assert f"{patient}_t2.nii.gz" in printed


def test_a_full_disk_ends_the_run_and_leaves_whole_cases(source, tmp_path, capsys, monkeypatch):
    write, n_written = one_case.write_volume, []

    def write_until_full(path, data, affine):
        n_written.append(path)
        if len(n_written) == 6:  # the label of the third case
            raise OSError(errno.ENOSPC, "No space left on device", str(path))
        write(path, data, affine)

    monkeypatch.setattr(one_case, "write_volume", write_until_full)
    assert run("acdc", source, tmp_path / "out") == 1
    assert "No space left on device" in capsys.readouterr().err
    assert len(n_written) == 6
    complete = sorted(pd.read_csv(tmp_path / "out/cases.csv").case)
    assert len(complete) == 2
    assert_only_whole_cases(tmp_path / "out", complete)
    monkeypatch.undo()
    assert run("acdc", source, tmp_path / "out") == 0
    assert_only_whole_cases(tmp_path / "out", others(without=()))


def test_ctrl_c_between_image_and_label(source, tmp_path, capsys, monkeypatch):
    write, n_written = one_case.write_volume, []

    def write_until_interrupted(path, data, affine):
        n_written.append(path)
        if len(n_written) == 4:
            raise KeyboardInterrupt
        write(path, data, affine)

    monkeypatch.setattr(one_case, "write_volume", write_until_interrupted)
    assert run("acdc", source, tmp_path / "out") == 130
    assert "the same command goes on" in capsys.readouterr().err
    complete = list(pd.read_csv(tmp_path / "out/cases.csv").case)
    assert len(complete) == 1
    assert_only_whole_cases(tmp_path / "out", complete)


def make_slow_source(folder, n_cases=24):
    """Pairs of noise, which takes a while to compress."""
    rng = np.random.default_rng(0)
    rows = ["case,image:MR,label"]
    for index in range(n_cases):
        labels = np.zeros((96, 96, 24), dtype=np.uint8)
        labels[40:60, 40:60, 10:14] = 1
        image = rng.normal(size=labels.shape).astype(np.float32)
        official.write_nifti(folder / f"i{index}.nii.gz", image, np.diag([1.0, 1, 3, 1]))
        official.write_nifti(folder / f"l{index}.nii.gz", labels, np.diag([1.0, 1, 3, 1]))
        rows.append(f"c{index:02d},i{index}.nii.gz,l{index}.nii.gz")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_stopped_from_outside_it_goes_on(tmp_path, how):
    source, dest = make_slow_source(tmp_path / "in"), tmp_path / "out"
    command = [sys.executable, "-m", "data_scripts.pairs", source, dest, "--workers", "2"]
    command += ["--classes", "box=1"]
    process = subprocess.Popen(
        command,
        cwd=project_root(),
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # as in a terminal
    )
    deadline = time.monotonic() + 60
    while len(list((dest / "labelsTr").glob("*.nii.gz"))) < 6:
        assert process.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.02)
    os.killpg(process.pid, how)
    _, errors = process.communicate(timeout=60)
    if how == signal.SIGINT:
        assert process.returncode == 130
        assert "Traceback" not in errors
        n_complete = len(pd.read_csv(dest / "cases.csv"))
        assert 4 <= n_complete < 24
        assert_only_whole_cases(dest, pd.read_csv(dest / "cases.csv").case)
    records = [p for p in (dest / ".conversion").glob("c*.json") if p.stat().st_size]
    whole = {path: path.stat().st_mtime_ns for path in records}
    finished = subprocess.run(command, cwd=project_root(), capture_output=True, text=True)
    assert finished.returncode == 0, finished.stderr
    assert f"{len(whole)} complete" in finished.stdout
    assert {path: path.stat().st_mtime_ns for path in whole} == whole  # not done again
    assert_only_whole_cases(dest, [f"c{index:02d}" for index in range(24)])


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
def test_workers_end_with_their_parent(tmp_path):
    source = make_slow_source(tmp_path / "in")
    command = [sys.executable, "-m", "data_scripts.pairs", source, tmp_path / "out"]
    command += ["--workers", "2", "--classes", "box=1"]
    process = subprocess.Popen(command, cwd=project_root(), stdout=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not list((tmp_path / "out/labelsTr").glob("*.nii.gz")):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    workers = psutil.Process(process.pid).children(recursive=True)
    assert len(workers) >= 2
    process.kill()
    process.wait()
    _, alive = psutil.wait_procs(workers, timeout=30)
    assert alive == []


def test_patients_stay_in_their_split_when_others_join(tmp_path, capsys):
    source = official.acdc(tmp_path / "ACDC", n_patients=30)
    (source / "training/patient004/Info.cfg").rename(tmp_path / "Info.cfg")
    late = [source / f"training/patient{n:03d}" for n in (2, 17, 29, 30)]
    for place in late:
        place.rename(tmp_path / place.name)
    assert run("acdc", source, tmp_path / "out") == 1
    before = pd.read_csv(tmp_path / "out/cases.csv").set_index("case").split
    assert len(before) == 25
    (tmp_path / "Info.cfg").rename(source / "training/patient004/Info.cfg")
    for place in late:
        (tmp_path / place.name).rename(place)
    assert run("acdc", source, tmp_path / "out") == 0
    after = pd.read_csv(tmp_path / "out/cases.csv").set_index("case").split
    assert len(after) == 30
    assert after[before.index].equals(before)
    assert (
        ": in the split of their first conversion; only a new DEST would" in capsys.readouterr().out
    )


def test_cases_of_an_earlier_source_stay(source, tmp_path, capsys):
    assert run("acdc", source, tmp_path / "out") == 0
    for name in ("patient001", "patient002"):
        shutil.rmtree(source / "training" / name)
    capsys.readouterr()
    assert run("acdc", source, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "ACDC: 4 cases found, 4 complete" in printed
    assert "2 complete cases are not in this SOURCE; they stay" in printed
    assert "a second" not in printed  # nothing was converted
    assert_only_whole_cases(tmp_path / "out", others(without=()))


def test_voxels_beside_a_header_are_watched_too(tmp_path, capsys):
    source = official.promise12(tmp_path / "in")
    assert run("promise12", source, tmp_path / "out") == 0
    names = set(pd.read_csv(tmp_path / "out/sources.csv").file)
    assert {"Case00.mhd", "Case00.raw", "Case00_segmentation.raw"} <= names
    raw = source / "TrainingData_Part1/Case00.raw"
    raw.write_bytes(raw.read_bytes()[:-1] + b"!")
    capsys.readouterr()
    assert run("promise12", source, tmp_path / "out") == 1
    assert f"{raw}: found another content" in capsys.readouterr().out


def test_doubtful_headers_are_reported(source, tmp_path, capsys):
    assert run("acdc", source, tmp_path / "out", "--frames", "ed") == 0
    printed = capsys.readouterr().out
    doubts = pd.read_csv(tmp_path / "out/report.csv").doubts.dropna()
    assert len(doubts) == 6
    assert doubts.str.contains("those of pixdim are used").all()
    assert "12 headers were unclear" in printed


def test_a_damaged_record_is_made_again(source, tmp_path):
    assert run("acdc", source, tmp_path / "out") == 0
    records = tmp_path / "out/.conversion"
    (records / "patient001.json").write_text("")
    (records / "patient002.json").write_text("{}")
    (records / "patient003.npz").unlink()
    assert run("acdc", source, tmp_path / "out") == 0
    assert_only_whole_cases(tmp_path / "out", others(without=()))


def test_labels_that_are_not_the_published_ones_are_not_merged(tmp_path, capsys):
    source = official.msd(tmp_path / "in", 5)
    path = source / "Task05_Prostate/dataset.json"
    text = path.read_text()
    path.write_text(text.replace('"T2"', '"DWI"'))
    assert run("msd", source, tmp_path / "out", "--task", 5) == 1
    assert "found DWI, ADC, expected T2, ADC (or --segments own)" in capsys.readouterr().err
    path.write_text(text.replace('"TZ"', '"TZ", "3": "urethra"'))
    assert run("msd", source, tmp_path / "out", "--task", 5) == 1
    assert "found PZ, TZ, urethra, expected PZ, TZ" in capsys.readouterr().err


def test_two_masks_of_one_patient_are_refused(tmp_path, capsys):
    source = official.prostatex(tmp_path)
    masks = official.meyer_masks(tmp_path / "meyer")
    first = next(masks.rglob("ProstateX-0000/*.nrrd"))
    shutil.copy(first, first.with_name("second reader.nrrd"))
    assert run("prostatex", source, tmp_path / "out", "--masks", masks) == 1
    assert "a second 0 beside" in capsys.readouterr().err
    masks = official.prostatex_masks(tmp_path / "repository")
    first = next(masks.rglob("ProstateX-0000.nii.gz"))
    shutil.copy(first, first.with_name("ProstateX-000.nii.gz"))
    assert run("prostatex", source, tmp_path / "out", "--masks", masks) == 1
    assert "one of each name" in capsys.readouterr().err


def test_test_scans_beside_the_training_scans_are_left_out(tmp_path):
    source = official.sliver07(tmp_path / "in")
    shutil.copytree(source / "training-part1", source / "test-data")
    assert run("sliver07", source, tmp_path / "out") == 0
    assert len(pd.read_csv(tmp_path / "out/cases.csv")) == 4


def test_the_printed_next_step_names_a_task_only_if_it_fits(tmp_path, capsys):
    source = official.msd(tmp_path / "in", 4)
    assert run("msd", source, tmp_path / "out dir", "--task", 4) == 0
    assert "out dir' --task hippocampus" in capsys.readouterr().out
    assert run("msd", source, tmp_path / "own", "--task", 4, "--segments", "own") == 0
    assert "--task" not in capsys.readouterr().out


def test_a_second_run_converts_nothing(source, tmp_path, capsys):
    assert run("acdc", source, tmp_path / "out") == 0
    times = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*.nii.gz")}
    os.utime(frame(source))  # looks newer, is the same
    capsys.readouterr()
    assert run("acdc", source, tmp_path / "out") == 0
    assert "6 complete, 0 to convert" in capsys.readouterr().out
    assert {p: p.stat().st_mtime_ns for p in times} == times


def test_a_changed_source_is_noticed(source, tmp_path, capsys):
    assert run("acdc", source, tmp_path / "out") == 0
    replace_volume(frame(source), lambda data, affine: (data + 1, affine))
    capsys.readouterr()
    assert run("acdc", source, tmp_path / "out") == 1
    printed = capsys.readouterr().out
    assert f"{frame(source)}: found another content" in printed
    assert "remove" in printed


def test_a_lost_volume_is_made_again(source, tmp_path):
    assert run("acdc", source, tmp_path / "out") == 0
    label = tmp_path / f"out/labelsTr/{NAME}.nii.gz"
    content = label.read_bytes()
    label.unlink()
    assert run("acdc", source, tmp_path / "out") == 0
    assert len(label.read_bytes()) == len(content)
    assert_only_whole_cases(tmp_path / "out", others(without=()))


def test_other_settings_and_other_folders_are_refused(source, tmp_path, capsys):
    assert run("acdc", source, tmp_path / "out") == 0
    assert run("acdc", source, tmp_path / "out", "--seed", 3) == 1
    assert "seed = 2020 (now 3)" in capsys.readouterr().err
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("important")
    assert run("acdc", source, tmp_path / "mine") == 1
    assert "found a folder with other files" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]


def test_a_dry_run_refuses_what_the_conversion_would(source, tmp_path, capsys):
    foreign, mine, begun = (tmp_path / name for name in ("foreign", "mine", "begun"))
    foreign.mkdir()
    (foreign / "notes.txt").write_text("somebody's own")
    (mine / "labelsTr").mkdir(parents=True)
    (mine / ".conversion").mkdir()
    (mine / "labelsTr" / f"{NAME}.nii.gz").write_bytes(b"somebody's own")
    assert run("acdc", source, begun) == 0
    replace_volume(frame(source), lambda data, affine: (data + 1, affine))
    for dest, options, said in (
        (foreign, (), "found a folder with other files"),
        (begun, ("--seed", 3), "found other settings: seed = 2020 (now 3)"),
        (mine, (), "found a volume of another origin"),
        (begun, (), f"{NAME}_frame01.nii.gz: found another content"),
    ):
        files = sorted(dest.rglob("*"))
        capsys.readouterr()
        assert run("acdc", source, dest, "--dry-run", *options) == 1
        assert sorted(dest.rglob("*")) == files
        assert said in "".join(capsys.readouterr())
        assert run("acdc", source, dest, *options) == 1


def test_a_dry_run_writes_nothing(source, tmp_path, capsys):
    frame(source).unlink()
    assert run("acdc", source, tmp_path / "out", "--dry-run") == 1
    printed = capsys.readouterr().out
    assert "6 cases found" in printed
    assert f"{NAME}: no such file" in printed
    assert not (tmp_path / "out").exists()


def test_the_report_and_the_tables(source, tmp_path, capsys):
    assert run("acdc", source, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "voxels 0.8 to 1 x 0.8 to 1.2 x 2.5 to 3 mm" in printed
    assert "cine MR: intensities from 0 to 900" in printed
    assert "a second" in printed
    sources = pd.read_csv(tmp_path / "out/sources.csv")
    assert list(sources.columns) == ["case", "file", "size", "sha256"]
    assert set(sources[sources.case == "patient002"].file) == {
        "patient002_frame04.nii.gz",
        "patient002_frame04_gt.nii.gz",
    }
    report = pd.read_csv(tmp_path / "out/report.csv").set_index("case")
    _, labels, affine = official.make_case(0, (1, 2, 3))
    expected = (labels == 2).sum() * abs(np.linalg.det(affine[:3, :3])) / 1000
    assert report.MYO_ml["patient001"] == pytest.approx(expected, abs=1e-3)
    assert report.max_0["patient001"] == official.BRIGHTEST


@pytest.mark.parametrize(
    ("script", "options", "message"),
    [
        ("acdc", (), "no folder patient001"),
        ("brats2017", (), "no patient"),
        ("promise12", (), "no Case00.mhd"),
        ("sliver07", (), "no liver-orig001.mhd"),
        ("msd", ("--task", 4), "dataset.json: found no such file"),
        ("chaos", ("--set", "SPIR"), "no patient in MR"),
        ("dhcp", (), "no sub-*/ses-*/anat"),
        ("feta", (), "no sub-001"),
        ("prostatex", ("--masks", "."), "no mask"),
        ("pairs", ("--classes", "a=1"), "pairs.csv: found no such file"),
    ],
)
def test_an_empty_source_and_one_that_is_not_there(tmp_path, capsys, script, options, message):
    (tmp_path / "empty").mkdir()
    options = [tmp_path / "empty" if option == "." else option for option in options]
    assert run(script, tmp_path / "empty", tmp_path / "out", *options) == 1
    assert message in capsys.readouterr().err
    assert run(script, tmp_path / "nowhere", tmp_path / "out", *options) == 1
    assert "no such" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def liver(source, patient="2"):
    return source / "Train_Sets" / "CT" / patient


CHAOS_FAULTS = {
    "a mask too few": (
        lambda place: next(iter((place / "Ground").iterdir())).unlink(),
        "9 DICOM slices and 8 masks",
    ),
    "a slice and its mask missing": (
        lambda place: [
            (place / "DICOM_anon/IMG-0001-00005.dcm").unlink(),
            (place / "Ground/liver_GT_004.png").unlink(),
        ],
        "gaps between slices from 2.5 to 5 mm",
    ),
    "names against positions": (
        lambda place: (place / "DICOM_anon/IMG-0001-00001.dcm").rename(
            place / "DICOM_anon/IMG-0001-00099.dcm"
        ),
        "file names that do not follow the positions",
    ),
    "a damaged slice": (
        lambda place: (place / "DICOM_anon/IMG-0001-00003.dcm").write_bytes(b"no DICOM"),
        "no readable DICOM header",
    ),
    "a mask of another size": (
        lambda place: official.write_pictures(
            place / "Ground", ["liver_GT_003.png"], np.zeros((5, 5, 1))
        ),
        "expected (18, 22)",
    ),
    "an unknown grey level": (
        lambda place: official.write_pictures(
            place / "Ground", ["liver_GT_003.png"], np.full((18, 22, 1), 99)
        ),
        "label values [99]",
    ),
}


@pytest.mark.parametrize("fault", CHAOS_FAULTS)
def test_chaos_refuses(tmp_path, capsys, fault):
    source = official.chaos(tmp_path / "in")
    spoil, message = CHAOS_FAULTS[fault]
    spoil(liver(source))
    assert run("chaos", source, tmp_path / "out", "--set", "CT") == 1
    printed = capsys.readouterr().out
    line = next(line for line in printed.splitlines() if line.startswith("problem with"))
    assert "CT_02" in line
    assert message in line
    assert "3 complete" in printed


def test_chaos_has_no_other_organs_in_ct(tmp_path):
    with pytest.raises(ValueError, match="CT has no other masks"):
        chaos.find(tmp_path, "CT", organs="all")


def test_prostatex_refuses_what_lies_on_no_series_or_on_two(tmp_path, capsys):
    source, masks = official.prostatex(tmp_path), official.meyer_masks(tmp_path / "masks")
    first = sorted((source / "PROSTATEx/ProstateX-0000").glob("*/*tra*"))
    shutil.copytree(first[0], first[0].with_name("9-t2tsetra-55555"))
    second = sorted((source / "PROSTATEx/ProstateX-0001").glob("*/5*"))[0]
    shutil.rmtree(second)
    assert run("prostatex", source, tmp_path / "out", "--masks", masks) == 1
    lines = [li for li in capsys.readouterr().out.splitlines() if li.startswith("problem with")]
    assert "found 2 of 3 axial T2 series on its grid" in lines[0]
    assert "found 0 of 1 axial T2 series on its grid" in lines[1]
    assert len(pd.read_csv(tmp_path / "out/cases.csv")) == 2


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("case,coil\nCase00,perhaps\n", "found 'perhaps', expected yes or no"),
        ("name\nCase00\n", "found columns name, expected case and coil"),
        ("case;coil\nCase00;yes\n", "found semicolons in case;coil, expected commas"),
        ("case,coil\n", "coils.csv: found no row, expected one for each case"),
        ("case,coil\nCase00,yes\nCase00,no\n", "case: found Case00 2 times, expected each"),
    ],
)
def test_promise12_reads_tables_of_coils_with_care(tmp_path, capsys, table, message):
    source = official.promise12(tmp_path / "in")
    (tmp_path / "coils.csv").write_text(table)
    assert run("promise12", source, tmp_path / "out", "--coils", tmp_path / "coils.csv") == 1
    assert message in capsys.readouterr().err


def test_promise12_names_what_is_missing(tmp_path, capsys):
    source = official.promise12(tmp_path / "in")
    (source / "TrainingData_Part1/Case01.raw").unlink()
    (source / "TrainingData_Part2/Case02_segmentation.mhd").unlink()
    (tmp_path / "coils.csv").write_text("case,coil\nCase00,no\nCase01,no\nCase02,no\n")
    assert run("promise12", source, tmp_path / "out", "--coils", tmp_path / "coils.csv") == 1
    printed = capsys.readouterr().out
    for name in ("Case01.raw", "Case02_segmentation.mhd", "no row in the table of coils"):
        assert name in printed


def test_the_contact_sheet_shows_every_segment_that_one_slice_can_show(tmp_path):
    """A small second segment lies off the slice with most foreground."""
    labels = np.zeros((20, 20, 8), dtype=np.uint8)
    labels[2:18, 2:18, 1:4] = 1
    labels[5:9, 5:9, 5] = 1
    labels[10:12, 10:12, 5] = 2
    path = tmp_path / "case.npz"
    one_case.save_thumbnail(path, labels, labels, np.diag([-1.0, 1, 3, 1]))
    with np.load(path) as thumbnail:
        assert set(np.unique(thumbnail["labels"])) == {0, 1, 2}
        assert thumbnail["shows_right"]


def nrrd_pairs(folder, lines, column=""):
    """Three images with labels of 1640 voxels, as NRRD with the header lines given."""
    folder.mkdir(parents=True)
    head = "NRRD0004\ntype: uchar\ndimension: 3\nsizes: 20 16 9\nencoding: raw\n"
    rows = ["case,image:MR,label,spacing_mm"]
    for index in range(3):
        image, label = np.full((2, 9 * 16 * 20), index, dtype=np.uint8)
        label[:1640] = 1
        image[::3] += 7
        label[1640:] = 0
        for name, voxels in (("image", image), ("label", label)):
            content = (head + lines + "\n").encode() + voxels.tobytes()
            (folder / f"{name}{index}.nrrd").write_bytes(content)
        rows.append(f"c{index},image{index}.nrrd,label{index}.nrrd,{column}")
    (folder / "pairs.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_pairs_asks_for_voxel_sizes_that_no_header_states(tmp_path, capsys):
    source = nrrd_pairs(tmp_path / "in", "")
    assert run("pairs", source, tmp_path / "out", "--classes", "x=1") == 1
    assert "image0.nrrd: found no voxel size, expected one" in capsys.readouterr().out
    source = nrrd_pairs(tmp_path / "again", "", "2x2x2.5")
    assert run("pairs", source, tmp_path / "out2", "--classes", "x=1") == 0
    report = pd.read_csv(tmp_path / "out2/report.csv")
    assert report.x_ml.tolist() == [16.4] * 3  # 1640 voxels of 10 cubic millimetres
    assert report.doubts.str.count("no orientation is set; axes are taken as L, P, S").eq(2).all()


def test_pairs_notes_what_a_header_leaves_open(tmp_path, capsys):
    source = nrrd_pairs(tmp_path / "in", "spacings: 2 2 2.5\n")
    assert run("pairs", source, tmp_path / "out", "--classes", "x=1") == 0
    report = pd.read_csv(tmp_path / "out/report.csv")
    assert report.doubts.str.contains("axes are taken as L, P, S").all()
    assert "6 headers were unclear" in capsys.readouterr().out
    named = "space: LPS\nspace directions: (2,0,0) (0,2,0) (0,0,2.5)\n"
    source = nrrd_pairs(tmp_path / "named", named)
    assert run("pairs", source, tmp_path / "out2", "--classes", "x=1") == 0
    assert pd.read_csv(tmp_path / "out2/report.csv").doubts.isna().all()


@pytest.mark.parametrize("column", ["2x2", "2x2x0", "2x2x-1", "2,5", "a"])
def test_pairs_refuses_a_spacing(tmp_path, capsys, column):
    source = nrrd_pairs(tmp_path / "in", "", f'"{column}"')
    assert run("pairs", source, tmp_path / "out", "--classes", "x=1") == 1
    assert "spacing_mm of c0: found '" in capsys.readouterr().err


def test_pairs_turns_every_channel_of_a_second_image_alike(tmp_path):
    channels, labels, affine = official.make_case(0, n_channels=2)
    flip = np.diag([-1.0, -1, 1, 1])
    flip[:2, 3] = np.array(labels.shape[:2]) - 1
    first = Volume(labels, affine, Path("a.nii"))
    second = Volume(channels[:, ::-1, ::-1], affine @ flip, Path("b.nii"))
    turned = turned_like(second, first)
    np.testing.assert_array_equal(turned.data, channels)
    np.testing.assert_allclose(turned.affine, affine, atol=1e-9)


def test_a_moved_label_is_a_doubt(source, tmp_path):
    for path in source.rglob("*_frame*.nii.gz"):
        image = nib.load(path)
        affine = np.diag([*image.header.get_zooms(), 1.0])
        affine[0, 3] = 0.3 if "_gt" in path.name else 0
        nib.save(nib.Nifti1Image(np.asarray(image.dataobj), affine), path)
    assert run("acdc", source, tmp_path / "out", "--frames", "ed") == 0
    doubts = pd.read_csv(tmp_path / "out/report.csv").doubts
    assert doubts.str.contains("moved against its image by 0.3 mm, less than half a voxel").all()
    label = nib.load(tmp_path / f"out/labelsTr/{NAME}.nii.gz")
    assert label.affine[0, 3] == 0


def test_a_tilted_dicom_series_is_refused(tmp_path):
    channels, _, affine = official.make_case(0)
    names = [f"{k}.dcm" for k in range(channels.shape[-1])]
    sheared = affine.copy()
    sheared[1, 2] = np.tan(np.deg2rad(20)) * 3
    official.write_dicom(tmp_path / "tilted", names, channels[0], sheared, "CT")
    official.write_dicom(tmp_path / "straight", names, channels[0], affine, "CT")
    with pytest.raises(ValueError, match="tilted: found axes 20 degrees off right angles"):
        read_series([tmp_path / "tilted" / name for name in names])
    assert read_series([tmp_path / "straight" / name for name in names]).data.ndim == 3


def dicom_series(folder, change=None):
    """Write a CT series of numbers from -200 on; `change` alters slice k before it is kept."""
    channels, _, affine = official.make_case(0)
    paths = [folder / f"{k}.dcm" for k in range(channels.shape[-1])]
    official.write_dicom(folder, [path.name for path in paths], channels[0] - 200, affine, "CT")
    for k, path in enumerate(paths):
        data = pydicom.dcmread(path)
        (change or (lambda k, data: None))(k, data)
        data.save_as(path)
    return paths


def rescaled(slopes, intercepts, signed=1):
    """Return a change of the rescale, slice by slice over again; the stored numbers stay."""

    def change(k, data):
        data.PixelRepresentation = signed
        data.RescaleSlope = str(slopes[k % len(slopes)])
        data.RescaleIntercept = str(intercepts[k % len(intercepts)])

    return change


@pytest.mark.parametrize("signed", [0, 1])
@pytest.mark.parametrize(
    ("slopes", "intercepts", "kind"),
    [
        ([1], [0, -1024], "i"),  # the first slice alone has no negative number
        ([1], [-1024, 0], "i"),
        ([1, 1.5, 0.3], [0], "f"),
        ([1.5, 1], [0], "f"),
        ([1], [0, 0.25], "f"),
        ([2, 3], [0], "iu"),  # of one type already
        ([1], [-1024], "i"),
    ],
)
def test_each_slice_of_a_series_has_its_own_rescale(tmp_path, slopes, intercepts, kind, signed):
    change = rescaled(slopes, intercepts, signed)
    paths = dicom_series(tmp_path, change)
    stored = np.stack([pydicom.dcmread(path).pixel_array.T for path in paths], axis=-1)
    k = np.arange(len(paths))
    expected = stored * np.take(slopes, k % len(slopes)) + np.take(intercepts, k % len(intercepts))
    volume = read_series(paths)
    np.testing.assert_allclose(volume.data, expected, rtol=0, atol=1e-9)
    assert volume.data.dtype.kind in kind


@pytest.mark.parametrize("bits", [(16, 12), (12, 16)])
def test_a_series_stays_in_the_type_of_its_first_slice_where_that_holds_it(tmp_path, bits):
    """What was exact before stays byte for byte what it was."""

    def change(k, data):
        data.BitsStored = bits[k % 2]
        data.HighBit, data.PixelRepresentation = data.BitsStored - 1, 0
        data.RescaleSlope, data.RescaleIntercept = ("1", "0") if k % 2 == 0 else ("1.0", "-1")

    paths = dicom_series(tmp_path, change)
    volume = read_series(paths)
    assert volume.data.dtype == np.uint16
    stored = np.stack([pydicom.dcmread(path).pixel_array.T for path in paths], axis=-1)
    np.testing.assert_array_equal(volume.data, stored.astype(int) - np.arange(len(paths)) % 2)


@pytest.mark.parametrize("which", ["all", "one"])
@pytest.mark.parametrize("value", [None, [], ["0", "0"], ["2"], ["1", "-1"]])
def test_a_series_without_a_voxel_size_is_refused(tmp_path, value, which):
    def change(k, data):
        if which == "all" or k == 3:
            del data.PixelSpacing
            if value is not None:
                data.PixelSpacing = value

    paths = dicom_series(tmp_path, change)
    with pytest.raises(
        ValueError, match=r"\.dcm: found .*PixelSpacing.*, expected voxel sizes in mm"
    ):
        read_series(paths)


def test_a_series_of_1_mm_is_none_without_a_voxel_size(tmp_path):
    def change(k, data):
        data.PixelSpacing = [1, 1]

    assert read_series(dicom_series(tmp_path, change)).spacing_mm[:2] == (1, 1)


def test_a_series_without_an_orientation_says_so(tmp_path):
    def change(k, data):
        del data.ImageOrientationPatient
        data.ImagePositionPatient = [0, 0, 3 * k]

    paths = dicom_series(tmp_path, change)
    with pytest.warns(UserWarning, match="no orientation is set; axes are taken as L, P, S."):
        volume = read_series(paths)
    assert nib.aff2axcodes(volume.affine) == ("L", "P", "S")


def test_a_mask_of_fewer_significant_bits_is_refused(tmp_path):
    official.write_pictures(tmp_path, ["a.png"], np.full((4, 3, 1), 255, np.uint8))
    path = tmp_path / "a.png"
    assert read_picture(path).max() == 255
    chunk = b"sBIT\x05"
    chunk = struct.pack(">I", 1) + chunk + struct.pack(">I", zlib.crc32(chunk))
    blob = path.read_bytes()
    path.write_bytes(blob[:33] + chunk + blob[33:])  # behind the header
    with pytest.raises(ValueError, match="a.png: found fewer significant bits than its 8"):
        read_picture(path)
    with pytest.raises(ValueError, match="b.png: found a damaged or missing picture"):
        read_picture(tmp_path / "b.png")


def test_millilitres_are_those_of_the_voxels_true_volume():
    directions = np.array([[1, 0, 0], [0, 1, np.sin(0.017)], [0, 0, np.cos(0.017)]])
    affine = nib.affines.from_matvec(directions @ np.diag([10.0, 10, 10]))
    labels = np.ones((20, 20, 20), np.uint8)
    record = one_case.describe_case(labels[None], labels, 1, Volume(labels, affine, Path("a")))
    assert record["volumes_ml"] == [round(8000 * np.cos(0.017), 3)]


def test_check_names_each_kind_of_header_that_was_resolved(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    for name in ("labelsTr/disc1", "labelsTr/disc2", "imagesTr/disc0_0000"):
        image = nib.load(folder / f"{name}.nii.gz")
        moved = image.affine + np.diag([0.0, 0, 0, 0.5])[[3, 0, 1, 2]]
        image.set_qform(moved, code=1)
        if "labels" in name:
            image.set_sform(moved, code=1)
        nib.save(image, folder / f"{name}.nii.gz")
    for workers in ("1", "2"):
        assert check.main([str(folder), "--workers", workers]) == 0
        printed = capsys.readouterr().out
        assert "2 headers were resolved, the first: " in printed
        assert "disc1.nii.gz: moved against its image by 0.5 mm" in printed
        assert "1 headers were resolved, the first: " in printed
        assert "sform and qform place voxels up to" in printed
        assert "6 of 6 cases are fit" in printed


def test_a_set_that_only_tests_is_offered_as_such(tmp_path, capsys):
    source = official.promise12(tmp_path / "in")
    assert run("promise12", source, tmp_path / "out") == 0
    printed = capsys.readouterr().out
    assert "no case in train and validation" in printed
    assert "-p ood_data" in printed
    assert check.main([str(tmp_path / "out"), "--workers", "1"]) == 0
    assert "the notebooks cannot train on it" in capsys.readouterr().out


def test_check_says_how_intensities_will_be_scaled(tmp_path, capsys, discs):
    assert check.main([str(discs), "--workers", "1"]) == 0
    assert "from each volume's minimum to its maximum" in capsys.readouterr().out
    source = official.msd(tmp_path, 9) / "Task09_Spleen"
    assert check.main([str(source), "--workers", "1", "--task", "spleen"]) == 0
    assert "by the rule of task spleen, hounsfield" in capsys.readouterr().out


def test_pairs_says_what_to_do_about_other_labels(tmp_path, capsys):
    source = make_slow_source(tmp_path / "in", n_cases=3)
    assert run("pairs", source, tmp_path / "out", "--classes", "tumour=2") == 1
    assert "name others in --classes, with a new DEST" in capsys.readouterr().out


def test_a_case_that_is_there_twice_is_refused(tmp_path, capsys):
    source = official.promise12(tmp_path / "in")
    shutil.copytree(source / "TrainingData_Part1", source / "unzipped again")
    assert run("promise12", source, tmp_path / "out") == 1
    assert "Case00" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_feta_in_two_releases(tmp_path, capsys):
    source = official.feta(tmp_path / "in")
    shutil.copytree(source / "feta_2.1", source / "feta_2.3")
    assert run("feta", source, tmp_path / "out") == 1
    assert "found feta_2.1, feta_2.3, expected one release" in capsys.readouterr().err


def test_feta_without_ages(tmp_path, capsys):
    source = official.feta(tmp_path / "in")
    (source / "feta_2.1/participants.tsv").write_text("participant_id\tPathology\nsub-001\tx\n")
    assert run("feta", source, tmp_path / "out", "--domain", "age") == 1
    assert "one with 'Gestational age'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        (["liver"], "a name and values"),
        (["liver=x"], "a name and values"),
        (["liver=1", "liver=2"], "each name and value once"),
        (["liver=1", "tumour=1"], "each name and value once"),
        (["liver=0"], "each name and value once"),
        (["Background=4"], "segments only"),
    ],
)
def test_pairs_refuses_classes(classes, message):
    with pytest.raises(ValueError, match=message):
        pairs.read_classes(classes)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("case,label\na,l\n", "case, label, image:NAME"),
        ("case,image:MR,label\n", "0 rows"),
        ("case,image:MR,label\na,i,l\na,i,l\n", "case"),
        ("case,image:MR,label\n../a,i,l\n", "case"),
        (
            "case,image:MR,label,split\na,i,l,train\nb,i,l,exam\n",
            "pairs.csv, line 3, split: found 'ex",
        ),
        ("case,image:MR,label\na,i,l\n,i,l\n", "pairs.csv, line 3, case: found ''"),
        (
            "case,image:MR,label\na,i,l,x\n",
            "line 2: found 4 cells, expected 3: case, image:MR, label",
        ),
        (
            "case,image:MR,label,label\na,i,l,l\n",
            "columns case, image:MR, label, label, expected each",
        ),
        ("", "pairs.csv: found an empty file, expected a table in UTF-8"),
        ("case,image:MR,label\nä,i,l\n".encode("latin-1"), "pairs.csv: found unreadable text"),
    ],
)
def test_pairs_refuses_tables(tmp_path, capsys, text, message):
    (tmp_path / "pairs.csv").write_bytes(text if isinstance(text, bytes) else text.encode())
    assert run("pairs", tmp_path, tmp_path / "out", "--classes", "box=1") == 1
    assert message in capsys.readouterr().err


def test_pairs_takes_what_a_spreadsheet_leaves(tmp_path):
    """Commas behind the last column, a column without a name, rows without anything."""
    rows = ["case, image:MR,label,", "a,i.nii,l.nii,,,", "", ",,,", "b,i.nii, l.nii,a note"]
    rows.append("c,i.nii,l.nii")
    (tmp_path / "pairs.csv").write_text("\n".join(rows))
    found = pairs.find(tmp_path, ["box=1"])
    assert [case.name for case in found.cases] == ["a", "b", "c"]
    for case in found.cases:
        assert (case.images, case.labels) == ((tmp_path / "i.nii",), (tmp_path / "l.nii",))


def test_pairs_takes_columns_in_capital_letters(tmp_path):
    (tmp_path / "pairs.csv").write_text("Case,image:T1,Image:T2,LABEL\na,1,2,l\nb,1,2,l\nc,1,2,l\n")
    assert pairs.find(tmp_path, ["box=1"]).channels == ("T1", "T2")
    (tmp_path / "pairs.csv").write_text("case,image:T1,Image:T1,label\na,1,2,l\n")
    with pytest.raises(ValueError, match="found columns case, image:T1, image:T1, label, expected"):
        pairs.find(tmp_path, ["box=1"])


def test_pairs_converts_more_segments_than_a_byte_counts(tmp_path):
    source = make_slow_source(tmp_path / "in", n_cases=3)
    for path in source.glob("*.nii*"):
        image = nib.load(path)
        data = np.asarray(image.dataobj)
        if set(np.unique(data)) <= {0, 1}:
            data = np.where(data == 1, 300, 0).astype(np.int16)
            nib.save(nib.Nifti1Image(data, image.affine), path)
    classes = [f"s{k}={k}" for k in range(1, 301)]
    assert run("pairs", source, tmp_path / "out", "--classes", *classes) == 0
    for path in (tmp_path / "out/labelsTr").iterdir():
        assert np.unique(np.asarray(nib.load(path).dataobj)).tolist() == [0, 300]


def test_pairs_names_the_empty_cells_of_a_row_and_keeps_the_others(tmp_path, capsys):
    source = make_slow_source(tmp_path / "in", n_cases=5)
    path = source / "pairs.csv"
    first, *rows = path.read_text().splitlines()
    cells = rows[1].split(",")
    rows[1] = ",".join(cells[:-1])
    rows[3] = ",".join([rows[3].split(",")[0], "", ""])
    path.write_text("\n".join([first, *rows]))
    columns = first.split(",")
    assert run("pairs", source, tmp_path / "out", "--classes", "box=1") == 1
    printed = capsys.readouterr().out
    told = "found an empty cell, expected the path of a file."
    assert f"{path}, line 3, {columns[-1]}: {told}" in printed
    assert f"{path}, line 5, {columns[1]}, {columns[2]}: {told}" in printed
    assert len(list((tmp_path / "out/labelsTr").iterdir())) == 3


@pytest.mark.parametrize(
    ("read", "name"),
    [
        (promise12._read_coils, "coils.csv"),
        (prostatex._series_numbers, "image_list.csv"),
        (feta._read_ages, "participants.tsv"),
    ],
)
def test_other_tables_are_refused_by_name_as_well(tmp_path, read, name):
    between = "\t" if name.endswith("tsv") else ","
    for content, told in (
        (b"", "found an empty file, expected a table in UTF-8"),
        (b"case\n\xe4\n", "found unreadable text .*, expected a table in UTF-8"),
        (f"case\na{between}b\n".encode(), "line 2: found 2 cells, expected 1: case"),
    ):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match=f"{name}.* {told}"):
            read(tmp_path / name)


def test_check_says_case_by_case_what_is_fit(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    assert check.main([str(folder), "--workers", "1"]) == 0
    assert "6 of 6 cases are fit" in capsys.readouterr().out
    path = folder / "labelsTr/disc2.nii.gz"
    path.write_bytes(path.read_bytes()[:100])
    assert check.main([str(folder), "--workers", "2"]) == 1
    printed = capsys.readouterr().out
    assert "disc1: fit (source, train)" in printed
    assert "disc2.nii.gz: found" in printed
    assert "5 of 6 cases are fit" in printed
    (folder / "labelsTr/disc0.nii.gz").unlink()
    (folder / "imagesTr/disc5_0000.nii.gz").unlink()
    assert check.main([str(folder), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert "disc0: " in printed
    assert "3 of 6 cases are fit" in printed
    assert check.main([str(tmp_path / "nowhere")]) == 1


def empty_labels(folder, names, value=0):
    """Let the labels of some cases hold one value only."""
    for name in names:
        path = folder / f"labelsTr/{name}.nii.gz"
        label = nib.load(path)
        nib.save(nib.Nifti1Image(np.full(label.shape, value, np.uint8), label.affine), path)


def test_check_ends_with_what_to_leave_out(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    for name, end in (("imagesTr", "_0000"), ("labelsTr", "")):
        (folder / name / f"disc2{end}.nii.gz").rename(folder / name / f"disc 2{end}.nii.gz")
    table = (folder / "cases.csv").read_text() + "disc6,source,test\n"  # which is not there
    (folder / "cases.csv").write_text(table.replace("disc2", "disc 2"))
    (folder / "labelsTr/disc 2.nii.gz").write_bytes(b"broken")
    (folder / "labelsTr/disc1.nii.gz").unlink()
    expected = ["--leave-out", "disc 2", "disc1", "disc6"]
    for given in ([], ["--leave-out", "disc6", "disc1"]):  # the line is complete each time
        assert check.main([str(folder), "--workers", "1", *given]) == 1
        *_, n_fit, last = capsys.readouterr().out.splitlines()
        assert n_fit == ("4 of 5 cases are fit" if given else "4 of 7 cases are fit")
        assert shlex.split(last.partition(": ")[2]) == expected
    assert check.main([str(folder), "--workers", "1", *expected]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == "4 of 4 cases are fit"


@pytest.mark.parametrize("with_splits", [False, True])
def test_check_advises_nothing_that_leaves_too_few(tmp_path, capsys, discs, with_splits):
    folder = shutil.copytree(discs, tmp_path / "discs")
    if not with_splits:
        (folder / "cases.csv").unlink()
    for number in range(4):
        (folder / f"labelsTr/disc{number}.nii.gz").write_bytes(b"broken")
    assert check.main([str(folder), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    last = printed.splitlines()[-1]
    assert "2 of 6 cases are fit" in printed and "--leave-out" not in printed
    told = (
        "split train: found no patient" if with_splits else "split: found 2 patients, expected at"
    )
    assert last.startswith(f"without the others too little is left to go on: {told}")


def test_check_leaves_out_what_it_is_told_to(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    (folder / "labelsTr/disc1.nii.gz").write_bytes(b"broken")
    assert check.main([str(folder), "--leave-out", "disc1", "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "note: left out by name: disc1" in lines
    assert lines[-1] == "5 of 5 cases are fit"
    assert check.main([str(folder), "--leave-out", "disc9", "--workers", "1"]) == 1
    assert "leave_out: found disc9, expected cases of" in capsys.readouterr().err


def test_check_tells_which_cases_networks_of_volumes_refuse(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    for name in ("imagesTr/disc2_0000", "labelsTr/disc2"):
        path = folder / f"{name}.nii.gz"
        volume = nib.load(path)
        middle = volume.shape[2] // 2
        data = np.asarray(volume.dataobj)[:, :, middle : middle + 1]
        nib.Nifti1Image(data, volume.affine).to_filename(path)
    assert check.main([str(folder), "--workers", "1"]) == 0
    told = "1 of 6 cases are one slice: the networks of 06 to 08 see volumes and refuse them: disc2"
    assert f"note: {told}" in capsys.readouterr().out.splitlines()


def test_check_counts_cases_without_foreground_and_ignored_voxels(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    empty_labels(folder, ["disc1", "disc3"])
    assert check.main([str(folder), "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[-2:] == ["note: 2 of 6 cases hold no foreground", "6 of 6 cases are fit"]
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"] |= {"ignore": 3}
    (folder / "dataset.json").write_text(json.dumps(description))
    path = folder / "labelsTr/disc0.nii.gz"
    label = np.asarray(nib.load(path).dataobj).copy()
    label[:12] = 3  # half of one case of six
    nib.save(nib.Nifti1Image(label, nib.load(path).affine), path)
    assert check.main([str(folder), "--workers", "2"]) == 0
    assert "note: 8.3 % of all voxels are ignored" in capsys.readouterr().out.splitlines()
    empty_labels(folder, ["disc0"], value=3)
    assert check.main([str(folder), "--workers", "1"]) == 1
    printed = capsys.readouterr().out.splitlines()
    assert printed[-1] == "to go on without the others, here and in the demo: --leave-out disc0"
    empty_labels(folder, [f"disc{number}" for number in range(6)])
    assert check.main([str(folder), "--workers", "1"]) == 1
    assert "found no foreground in 6 fit cases" in capsys.readouterr().err


def test_check_names_files_that_nobody_reads_and_numbers_that_are_wrong(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    (folder / "imagesTr/f_0000.mgz").touch()
    description = json.loads((folder / "dataset.json").read_text()) | {"numTraining": 99}
    (folder / "dataset.json").write_text(json.dumps(description))
    assert check.main([str(folder), "--workers", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "note: files that belong to no case, not read: imagesTr/f_0000.mgz" in lines
    assert "note: numTraining in dataset.json announces 99 cases, found 6" in lines
    (folder / "cases.csv").unlink()
    assert check.main([str(folder), "--workers", "1"]) == 1
    assert "found 99 announced and 6 in imagesTr and labelsTr" in capsys.readouterr().err


def test_pairs_takes_splits_by_other_names(tmp_path, capsys):
    rows = "".join(f"{n},i{n}.nii,l.nii,{s}\n" for n, s in enumerate(("Tr", "VAL", "ts")))
    (tmp_path / "pairs.csv").write_text("case,image:MR,label,split\n" + rows)
    found = pairs.find(tmp_path, ["box=1"])
    assert found.split_of == {"0": "train", "1": "validation", "2": "test"}


def test_check_takes_the_older_layout_of_msd(tmp_path, capsys):
    source = official.msd(tmp_path, 5) / "Task05_Prostate"
    assert check.main([str(source), "--workers", "1"]) == 0
    printed = capsys.readouterr().out
    assert "channels T2, ADC; segments PZ, TZ" in printed
    assert "5 of 5 cases are fit" in printed


def test_the_result_does_not_depend_on_the_number_of_processes(source, tmp_path):
    for workers in (1, 2):
        assert run("acdc", source, tmp_path / f"out{workers}", workers=workers) == 0
    one, two = (read_dataset(tmp_path / f"out{workers}") for workers in (1, 2))
    assert [c.split for c in one.cases] == [c.split for c in two.cases]
    for first, second in zip(one.cases, two.cases, strict=True):
        a, b = (nib.load(c.image_paths[0]) for c in (first, second))
        assert np.array_equal(a.get_fdata(), b.get_fdata())
        assert np.array_equal(a.affine, b.affine)


def test_dataset_json_says_what_was_merged(tmp_path):
    source = official.msd(tmp_path / "in", 4)
    assert run("msd", source, tmp_path / "out", "--task", 4) == 0
    description = json.loads((tmp_path / "out/dataset.json").read_text())
    assert description["labels"] == {"background": 0, "hippocampus": 1}
    assert description["labels_from"] == {"0": 0, "1": 1, "2": 1}
    assert "Anterior and Posterior are merged" in description["notes"][0]


def test_check_names_a_segment_that_no_label_holds(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    for path in (folder / "labelsTr").iterdir():
        label = nib.load(path)
        if "disc5" not in path.name:  # which only tests
            data = np.minimum(np.asarray(label.dataobj), 1)
            nib.save(nib.Nifti1Image(data, label.affine), path)
    assert check.main([str(folder), "--workers", "1"]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[-1] == "6 of 6 cases are fit"
    assert "no label for training or validation holds core: networks cannot" in lines[-2]


def test_check_counts_the_same_cases_first_and_last(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    image = folder / "imagesTr/disc0_0000.nii.gz"
    image.unlink()
    image.symlink_to(tmp_path / "nowhere.nii.gz")
    assert check.main([str(folder), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert printed.startswith("discs: 6 cases, 1 of them without all files\n")
    assert "disc0_0000.nii.gz: found a link that leads nowhere, expected a file." in printed
    assert "5 of 6 cases are fit" in printed


def test_without_dataset_json_a_bad_label_is_one_case(tmp_path, capsys, discs):
    folder = shutil.copytree(discs, tmp_path / "discs")
    (folder / "dataset.json").unlink()
    (folder / "labelsTr/disc3.nii.gz").write_bytes(b"broken")
    assert check.main([str(folder), "--workers", "1"]) == 1
    printed = capsys.readouterr().out
    assert "channels channel 0; segments label 1, label 2" in printed
    assert "5 of 6 cases are fit" in printed


def test_letters_that_a_terminal_lacks_are_escaped(tmp_path, monkeypatch, discs):
    folder = shutil.copytree(discs, tmp_path / "\u5fc3\u81df")
    written = io.TextIOWrapper(io.BytesIO(), encoding="cp1252")
    monkeypatch.setattr(sys, "stdout", written)
    assert check.main([str(folder), "--workers", "1"]) == 0
    written.flush()
    assert written.buffer.getvalue().startswith(rb"\u5fc3\u81df: 6 cases")


def test_check_tells_that_no_validation_case_holds_foreground(discs, tmp_path, capsys):
    """Training refuses it: silence would be the best network."""
    folder = shutil.copytree(discs, tmp_path / "d")
    for case in read_dataset(folder).cases:
        if case.split == "validation":
            replace_volume(case.label_path, lambda data, affine: (data * 0, affine))
    assert check.main([str(folder), "--workers", "1"]) == 1
    assert "no validation case holds foreground" in capsys.readouterr().out
