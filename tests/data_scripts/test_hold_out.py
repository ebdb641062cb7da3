"""Domains held out: all their cases for testing, the others split by patient, nothing copied."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from conftest import write_dataset, write_discs

from data_scripts import check, hold_out
from data_scripts.phantoms.write import write_phantoms
from segcal_lite.data.cases import load_case
from segcal_lite.data.datasets import read_dataset
from segcal_lite.data.splits import split_by_patient
from segcal_lite.data.tasks import TASKS


@pytest.fixture
def source(tmp_path):
    """Twelve cases of three domains, a column more than is read, and no splits."""
    write_dataset(tmp_path / "source", n_cases=12, domains=("a", "b", "c"))
    path = tmp_path / "source/cases.csv"
    first, *rows = path.read_text().splitlines()
    path.write_text("\n".join([f"{first},age", *(f"{row},00{n}" for n, row in enumerate(rows))]))
    return tmp_path / "source"


def run(source, dest, *options):
    return hold_out.main([str(source), str(dest), *map(str, options)])


def splits_of(folder):
    return {case.name: case.split for case in read_dataset(folder).cases}


def with_column(source, name, cells):
    """Add a column to ``cases.csv``, a cell a row in the order of its rows."""
    path = source / "cases.csv"
    rows = zip(path.read_text().splitlines(), [name, *cells], strict=True)
    path.write_text("\n".join(map(",".join, rows)))


def test_held_domains_are_tested_on_and_the_others_are_split(source, tmp_path, capsys):
    dest = tmp_path / "dest"
    assert run(source, dest, "--domains", "b", "c", "--counts", 1, 1, 2, "--seed", 5) == 0
    printed = capsys.readouterr().out
    drawn = split_by_patient(["c0", "c3", "c6", "c9"], (1, 1, 2), seed=5)
    assert splits_of(dest) == dict.fromkeys((f"c{n}" for n in range(12)), "test") | drawn
    assert "  train: a 1\n  validation: a 1\n  test: a 2, b 4, c 4\n" in printed
    assert printed.endswith(f"use it as: python -m segcal_lite demo --data {dest}\n")
    assert "note" not in printed
    assert check.main([str(dest), "--workers", "1"]) == 0
    assert "12 of 12 cases are fit" in capsys.readouterr().out


def test_the_default_is_six_of_ten_by_one_seed(source, tmp_path):
    assert run(source, tmp_path / "dest", "--domains", "c") == 0
    others = [f"c{n}" for n in (0, 1, 3, 4, 6, 7, 9, 10)]
    drawn = split_by_patient(others, (60, 10, 30), seed=2020)
    assert {name: s for name, s in splits_of(tmp_path / "dest").items() if name in others} == drawn


def test_the_volumes_stay_where_they_are_and_all_else_is_carried_over(source, tmp_path):
    dest = tmp_path / "new/dest"
    assert run(source, dest, "--domains", "b") == 0
    assert sorted(path.name for path in dest.iterdir()) == ["cases.csv", "dataset.json"]
    before, after = read_dataset(source), read_dataset(dest)
    for name in ("channels", "segments", "label_values"):
        assert getattr(before, name) == getattr(after, name)
    for old, new in zip(before.cases, after.cases, strict=True):
        assert (old.name, old.domain, old.image_paths) == (new.name, new.domain, new.image_paths)
        for expected, found in zip(load_case(before, old), load_case(after, new), strict=True):
            np.testing.assert_array_equal(expected, found)
    rows = (dest / "cases.csv").read_text().splitlines()
    assert rows[0] == "case,domain,age,split"
    assert [row.split(",")[2] for row in rows[1:3]] == ["000", "001"]


def test_a_patient_with_images_in_both_is_for_testing(source, tmp_path, capsys):
    with_column(source, "patient", ["p0", "p1", "p2", "p2", *(f"p{n}" for n in range(4, 12))])
    assert run(source, tmp_path / "dest", "--domains", "c") == 0
    splits = splits_of(tmp_path / "dest")
    assert (splits.pop("c2"), splits.pop("c3")) == ("test", "test")
    drawn = split_by_patient([f"p{n}" for n in (0, 1, 4, 6, 7, 9, 10)], (60, 10, 30), seed=2020)
    assert {f"p{name[1:]}": s for name, s in splits.items() if f"p{name[1:]}" in drawn} == drawn
    expected = "note: patients who have cases in both parts, all for test: p2\n"
    assert expected in capsys.readouterr().out


def test_a_domain_is_the_same_however_its_accents_are_written(source, tmp_path):
    path = source / "cases.csv"
    path.write_text(path.read_text().replace(",c,", ",Z\u00fcrich,"), encoding="utf-8")
    assert run(source, tmp_path / "dest", "--domains", "Zu\u0308rich") == 0
    assert splits_of(tmp_path / "dest")["c2"] == "test"


def test_cases_of_one_image_count_as_one_patient_also_across_domains(source, tmp_path, capsys):
    for channel in range(2):
        shutil.copy(*(source / f"imagesTr/{c}_000{channel}.nii.gz" for c in ("c2", "c6")))
    assert run(source, tmp_path / "dest", "--domains", "c") == 0
    assert splits_of(tmp_path / "dest")["c6"] == "test"
    printed = capsys.readouterr().out
    assert "note: patients who have cases in both parts, all for test: c2\n" in printed
    assert "note: c2 and c6 hold the same image, which stays in one split\n" in printed


def test_cases_that_nnunet_keeps_for_tests_stay_for_tests(source, tmp_path):
    for below, ending in (("images", "_0000"), ("images", "_0001"), ("labels", "")):
        (source / f"{below}Ts").mkdir(exist_ok=True)
        for name in ("c0", "c1", "c3"):
            file = f"{name}{ending}.nii.gz"
            (source / f"{below}Tr" / file).rename(source / f"{below}Ts" / file)
    with_column(source, "split", ["train", "val", "test"] * 4)
    assert run(source, tmp_path / "first", "--domains", "c") == 0
    assert run(tmp_path / "first", tmp_path / "second", "--domains", "c") == 0
    for name in ("first", "second"):
        splits = splits_of(tmp_path / name)
        held = [f"c{number}" for number in (0, 1, 3, 2, 5, 8, 11)]
        assert {splits.pop(case) for case in held} == {"test"}
        assert set(splits.values()) == {"train", "validation", "test"}


def test_given_splits_are_replaced_and_that_is_said(source, tmp_path, capsys):
    with_column(source, "Split", ["train", "val", "test"] * 4)
    assert run(source, tmp_path / "dest", "--domains", "a") == 0
    assert "note: the splits in cases.csv are replaced\n" in capsys.readouterr().out
    assert {splits_of(tmp_path / "dest")[f"c{n}"] for n in (0, 3, 6, 9)} == {"test"}


def test_given_splits_need_not_be_whole(source, tmp_path):
    with_column(source, "split", ["train", "test"] * 6)
    assert run(source, tmp_path / "dest", "--domains", "b") == 0
    assert set(splits_of(tmp_path / "dest").values()) == {"train", "validation", "test"}


def test_a_listing_and_a_dataset_without_a_description_are_sources_too(source, tmp_path):
    assert run(source, tmp_path / "first", "--domains", "a") == 0
    assert run(tmp_path / "first", tmp_path / "second", "--domains", "a") == 0
    for name in ("cases.csv", "dataset.json"):
        first, second = (tmp_path / folder / name for folder in ("first", "second"))
        assert first.read_text() == second.read_text()
    (source / "dataset.json").unlink()
    assert run(source, tmp_path / "third", "--domains", "a") == 0
    third = read_dataset(tmp_path / "third")
    assert (third.channels, third.segments) == (
        ("channel 0", "channel 1"),
        ("label 1", "label 2", "label 3"),
    )


def test_true_probabilities_of_phantoms_are_found_beside_their_labels(tmp_path):
    small = {"size": (16, 16), "n_slices": 2}
    write_phantoms(tmp_path / "source", TASKS["heart"], 1, 1, 1, 3, **small)
    assert run(tmp_path / "source", tmp_path / "dest", "--domains", "source") == 0
    before, after = (read_dataset(tmp_path / name).cases for name in ("source", "dest"))
    assert [case.posterior_path for case in before] == [case.posterior_path for case in after]
    assert before[0].posterior_path is not None


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["a", "d", "e"], "--domains: found d, e, expected some of a, b, c."),
        (["a", "b", "c"], "--domains: found all but 0 patients in a, b, c, expected 3 others"),
        (["a", "--counts", "3", "0", "1"], "split, validation: found 0, expected an integer"),
        (["a", "--seed", "-1"], "seed: found -1, expected an integer of at least 0."),
    ],
)
def test_what_cannot_be_held_out_is_said_in_one_sentence(
    source, tmp_path, capsys, options, message
):
    assert run(source, tmp_path / "new/dest", "--domains", *options) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith(message)
    assert (printed.err.count("\n"), printed.out) == (1, "")
    assert not (tmp_path / "new").exists()


def test_what_lies_in_dest_is_left_alone_and_an_empty_folder_will_do(source, tmp_path, capsys):
    (tmp_path / "dest").mkdir()
    assert run(source, tmp_path / "dest", "--domains", "a") == 0
    before = (tmp_path / "dest/cases.csv").read_bytes()
    for dest in (tmp_path / "dest", tmp_path / "dest/cases.csv"):
        assert run(source, dest, "--domains", "b") == 1
        assert "found something that lies there already, expected a new" in capsys.readouterr().err
    assert (tmp_path / "dest/cases.csv").read_bytes() == before


def test_without_domains_there_is_nothing_to_hold_out(tmp_path, capsys):
    folder = write_discs(tmp_path / "discs")
    splits = [row.split(",") for row in (folder / "cases.csv").read_text().splitlines()]
    (folder / "cases.csv").write_text("\n".join(f"{case},{split}" for case, _, split in splits))
    assert run(folder, tmp_path / "dest", "--domains", "source") == 1
    assert "cases.csv: found no column domain, expected" in capsys.readouterr().err
    (folder / "cases.csv").unlink()
    assert run(folder, tmp_path / "dest", "--domains", "source") == 1
    assert "cases.csv: found no column domain, expected" in capsys.readouterr().err


def test_channels_in_one_file_cannot_be_listed(source, tmp_path, capsys):
    for number in range(12):
        paths = [source / f"imagesTr/c{number}_000{channel}.nii.gz" for channel in range(2)]
        images = [nib.load(path) for path in paths]
        voxels = np.stack([image.get_fdata() for image in images], axis=3).astype(np.float32)
        nib.save(nib.Nifti1Image(voxels, images[0].affine), source / f"imagesTr/c{number}.nii.gz")
        for path in paths:
            path.unlink()
    assert run(source, tmp_path / "dest", "--domains", "a") == 1
    assert "c0.nii.gz: found 2 channels in one file, expected" in capsys.readouterr().err


def test_a_path_that_a_listing_would_change_is_noticed(source, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("SITE", "elsewhere")
    source.rename(tmp_path / "$SITE")
    assert run(tmp_path / "$SITE", tmp_path / "dest", "--domains", "a") == 1
    assert "elsewhere" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["$SITE"]


def test_the_description_keeps_its_further_fields(source, tmp_path):
    fields = json.loads((source / "dataset.json").read_text())
    (source / "dataset.json").write_text(json.dumps(fields | {"licence": "mine"}))
    assert run(source, tmp_path / "dest", "--domains", "a") == 0
    written = json.loads((tmp_path / "dest/dataset.json").read_text())
    assert {name: written[name] for name in (*fields, "licence")} == fields | {"licence": "mine"}
    assert written["numTraining"] == len(written["dataset"]) == 12
