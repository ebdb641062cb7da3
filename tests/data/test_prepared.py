import contextlib
import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pytest
import torch

from segcal_lite._checks import IGNORED
from segcal_lite.data import prepared as module
from segcal_lite.data.datasets import read_dataset
from segcal_lite.data.grids import read_grid
from segcal_lite.data.prepared import prepare_dataset, read_prepared
from segcal_lite.runs.tables import read_table, write_table
from segcal_lite.training.slices import load_slices


def silent(line):
    pass


def test_cases_lie_on_the_models_grid(prepared):
    cases = read_prepared(prepared[2])
    assert [case.split for case in cases] == ["train"] * 3 + ["validation"] * 2 + ["test"]
    for case in cases:
        assert case.image.shape == (1, 32, 32, 3)
        assert case.labels.shape == (32, 32, 3)
        assert case.posterior is None
        assert isinstance(case.image.base, np.memmap)
        assert tuple(case.spacing_mm) == (2, 2, 8)
        assert 0 <= case.image.min() < case.image.max() <= 1


def test_regions_leave_out_the_padding_and_box_the_foreground(prepared):
    case = read_prepared(prepared[2])[0]
    regions = case.regions
    assert regions["whole"] == (slice(4, 28), slice(4, 28), slice(0, 3))
    foreground = np.argwhere(np.any(case.labels > 0, axis=-1))
    lowest, highest = foreground.min(axis=0) - 4, foreground.max(axis=0) + 5  # 8 mm are 4 voxels
    expected = tuple(slice(max(a, 4), min(b, 28)) for a, b in zip(lowest, highest, strict=True))
    assert regions["box"][:2] == expected


def test_slices_come_in_the_order_of_the_cases(prepared):
    cases = read_prepared(prepared[2])
    slices = load_slices(cases, "train")
    assert slices.case_index.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert np.array_equal(slices.images[4].numpy(), cases[1].image[..., 1])
    assert np.array_equal(slices.labels[4].numpy(), cases[1].labels[..., 1])


def test_prepared_cases_are_kept_and_an_interrupted_one_is_made_again(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    dataset = read_dataset(discs)
    prepare_dataset(dataset, task, profile.crop_size, tmp_path, silent)
    kept = (tmp_path / "disc0" / "image.npy").stat().st_mtime_ns
    shutil.rmtree(tmp_path / "disc1")
    (tmp_path / ".partial-disc1").mkdir()
    lines = []
    prepare_dataset(dataset, task, profile.crop_size, tmp_path, lines.append)
    assert lines == ["prepared 1 of 1 cases"]
    assert (tmp_path / "disc0" / "image.npy").stat().st_mtime_ns == kept
    assert (tmp_path / "disc1" / "record.json").exists()
    assert not list(tmp_path.glob(".partial*"))


def patients_of(dataset, task, profile, folder):
    """Prepare a dataset, or find it done; return the patient of each case."""
    return [c.patient for c in prepare_dataset(dataset, task, profile.crop_size, folder, silent)]


def test_patients_have_names_also_where_an_older_table_has_none(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    folder, dataset = tmp_path / "prepared", read_dataset(discs)
    cases = tuple(replace(case, patient=f"p{k // 2}") for k, case in enumerate(dataset.cases))
    dataset, expected = replace(dataset, cases=cases), [case.patient for case in cases]
    assert patients_of(dataset, task, profile, folder) == expected
    assert [case.patient for case in read_prepared(folder)] == expected
    table = read_table(folder / "cases.csv", sealed=True)
    write_table(folder / "cases.csv", table.drop(columns="patient"), sealed=True)
    assert patients_of(dataset, task, profile, folder) == expected
    assert [case.patient for case in read_prepared(folder)] == [case.name for case in cases]


def test_a_folder_of_other_settings_is_refused(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    prepare_dataset(read_dataset(discs), task, profile.crop_size, tmp_path, silent)
    with pytest.raises(ValueError, match=r"crop_size = \[32, 32\] \(now \[48, 32\]\)"):
        other = replace(profile, crop_size=(48, 32))
        prepare_dataset(read_dataset(discs), task, other.crop_size, tmp_path, silent)


def test_a_wrong_case_leaves_nothing_half_written(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    copy = shutil.copytree(discs, tmp_path / "copy")
    label = copy / "labelsTr" / "disc2.nii.gz"
    volume = nib.load(label)
    nib.save(nib.Nifti1Image(np.asarray(volume.dataobj) + 5, volume.affine), label)
    with pytest.raises(ValueError, match=rf"{label}: found label values \[5, 6, 7\]"):
        prepare_dataset(read_dataset(copy), task, profile.crop_size, tmp_path / "out", silent)
    assert sorted(path.name for path in (tmp_path / "out").iterdir() if path.is_dir()) == [
        "disc0",
        "disc1",
    ]
    assert not (tmp_path / "out" / "cases.csv").exists()


def test_header_conflicts_are_told_in_one_line(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    copy = shutil.copytree(discs, tmp_path / "copy")
    for path in copy.rglob("*.nii.gz"):
        volume = nib.load(path)
        broken = nib.Nifti1Image(np.asarray(volume.dataobj), None, volume.header)
        broken.header.set_zooms((2.0, 2.0, 8.0))
        broken.header.set_sform(np.diag([-1, -1, 1, 1]), code=2)
        broken.header.set_qform(None, code=0)
        nib.save(broken, path)
    lines = []
    cases = prepare_dataset(
        read_dataset(copy), task, profile.crop_size, tmp_path / "out", lines.append
    )
    told = [line for line in lines if "headers were resolved" in line]
    assert len(told) == 1
    assert told[0].startswith("12 headers")
    assert all(tuple(case.spacing_mm) == (2, 2, 8) for case in cases)


def write_single_slices(folder, source):
    """The discs' middle slices, one a case."""
    shutil.copytree(source, folder)
    for path in folder.rglob("*.nii.gz"):
        volume = nib.load(path)
        nib.save(volume.slicer[:, :, 1:2], path)
    return read_dataset(folder)


def test_single_slices_are_prepared_for_2d_and_refused_for_3d(prepared, discs, tmp_path):
    task, profile, folder, _ = prepared
    dataset = write_single_slices(tmp_path / "flat", discs)
    finer = replace(task, spacing_mm=(2.0, 2.0, 2.0))  # one slice of 8 mm is not four of 2 mm
    cases = prepare_dataset(dataset, finer, profile.crop_size, tmp_path / "2d", silent)
    for case, volume in zip(cases, read_prepared(folder), strict=True):
        assert case.image.shape == (1, 32, 32, 1)
        np.testing.assert_array_equal(case.labels, volume.labels[..., 1:2])
        assert case.regions["box"][2] == slice(0, 1)
    assert load_slices(cases, "train").images.shape == (3, 1, 32, 32)
    for number, crop_size in enumerate(((32, 32, 16), None)):
        with pytest.raises(ValueError, match="disc0.nii.gz: found one slice, expected a volume"):
            prepare_dataset(dataset, task, crop_size, tmp_path / f"3d{number}", silent)


def doubtful(discs, folder):
    """The discs, three of whose headers are of two doubtful kinds."""
    shutil.copytree(discs, folder)
    for name in ("labelsTr/disc1", "labelsTr/disc2", "imagesTr/disc0_0000"):
        volume = nib.load(folder / f"{name}.nii.gz")
        moved = volume.affine + np.diag([0.0, 0, 0, 0.5])[[3, 0, 1, 2]]
        volume.set_qform(moved, code=1)
        if "labels" in name:
            volume.set_sform(moved, code=1)
        nib.save(volume, folder / f"{name}.nii.gz")
    return folder


def test_two_kinds_of_doubtful_headers_are_two_lines(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    folder, lines = doubtful(discs, tmp_path / "copy"), []
    prepare_dataset(read_dataset(folder), task, profile.crop_size, tmp_path / "out", lines.append)
    told = [line for line in lines if "headers were resolved" in line]
    assert len(told) == 2
    assert told[0].startswith("1 headers")
    assert "sform and qform place voxels up to 0.5 mm apart" in told[0]
    assert told[1].startswith("2 headers")
    assert "disc1.nii.gz: moved against its image by 0.5 mm" in told[1]


@pytest.mark.parametrize("work", ["load_case", "write_grid", "write_table"])
@pytest.mark.parametrize("n_calls", [0, 1, 2])
def test_an_interrupted_preparation_says_what_a_whole_one_would(
    prepared, discs, tmp_path, monkeypatch, work, n_calls
):
    task, profile, _, _ = prepared
    folder, real, calls = doubtful(discs, tmp_path / "copy"), getattr(module, work), []
    empty_labels(folder, ["disc3"])

    def prepare(out):
        lines = []
        prepare_dataset(read_dataset(folder), task, profile.crop_size, out, lines.append)
        return [line for line in lines if not line.startswith("prepared ")]

    whole = prepare(tmp_path / "whole")
    assert len(whole) == 3  # two kinds of headers, and no foreground

    def interrupted(*arguments, **options):
        if len(calls) == n_calls:
            monkeypatch.setattr(module, work, real)
            raise KeyboardInterrupt
        calls.append(arguments)
        return real(*arguments, **options)

    monkeypatch.setattr(module, work, interrupted)
    with contextlib.suppress(KeyboardInterrupt):
        prepare(tmp_path / "parts")
    assert prepare(tmp_path / "parts") == prepare(tmp_path / "parts") == whole
    assert read_grid(tmp_path / "parts").notes == tuple(whole)


def test_settings_are_json_for_people(prepared):
    settings = json.loads((prepared[2] / "settings.json").read_text())
    assert settings["task"]["segments"] == ["ring", "core"]
    assert settings["crop_size"] == [32, 32]


def test_a_folder_that_was_not_prepared_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no cases.csv"):
        read_prepared(tmp_path)


def empty_labels(folder, names):
    """Let the labels of some cases be all background."""
    for name in names:
        path = folder / "labelsTr" / f"{name}.nii.gz"
        label = nib.load(path)
        nib.save(nib.Nifti1Image(np.zeros(label.shape, np.uint8), label.affine), path)


def test_cases_without_foreground_are_counted(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    folder = shutil.copytree(discs, tmp_path / "discs")
    empty_labels(folder, ["disc1", "disc4"])
    lines = []
    for _ in range(2):
        cases = prepare_dataset(
            read_dataset(folder), task, profile.crop_size, tmp_path / "prepared", lines.append
        )
    told = "2 of 6 cases hold no foreground"
    assert lines == ["prepared 6 of 6 cases", told, told]  # at each opening
    assert [bool(case.labels.any()) for case in cases] == [True, False, True, True, False, True]


def test_a_dataset_without_any_foreground_is_refused_each_time(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    folder = shutil.copytree(discs, tmp_path / "discs")
    empty_labels(folder, [f"disc{number}" for number in range(6)])
    for _ in range(2):
        with pytest.raises(ValueError, match="discs: found no foreground in 6 cases, expected"):
            prepare_dataset(
                read_dataset(folder), task, profile.crop_size, tmp_path / "prepared", silent
            )


def test_what_nobody_annotated_is_no_foreground(prepared, discs, tmp_path):
    task, profile, _, _ = prepared
    folder = shutil.copytree(discs, tmp_path / "discs")
    description = json.loads((folder / "dataset.json").read_text())
    description["labels"] |= {"ignore": 3}
    (folder / "dataset.json").write_text(json.dumps(description))
    empty_labels(folder, ["disc1"])
    path = folder / "labelsTr" / "disc1.nii.gz"
    label = np.asarray(nib.load(path).dataobj).copy()
    label[:12] = 3
    nib.save(nib.Nifti1Image(label, nib.load(path).affine), path)
    lines = []
    cases = prepare_dataset(
        read_dataset(folder), task, profile.crop_size, tmp_path / "prepared", lines.append
    )
    assert lines[1] == "1 of 6 cases hold no foreground"
    assert np.unique(cases[1].labels).tolist() == [IGNORED, 0]


def test_unannotated_voxels_stay_signed_and_are_no_foreground(altered):
    def corner_hidden(name, labels):
        labels = np.zeros_like(labels)
        labels[15:17, 15:17] = 1
        labels[:6, :6] = -1
        return labels

    cases = read_prepared(altered(corner_hidden))
    slices = load_slices(cases, "train")
    assert slices.labels.min() == -1
    assert torch.equal(slices.labels[0, :6, :6], torch.full((6, 6), -1, dtype=torch.int16))
    for case in cases:
        assert case.regions["box"][0] == slice(11, 21)  # 8 mm are 4 voxels
        assert case.mask(1).sum() == 4 * case.labels.shape[-1]


def test_targets_of_regions_are_binary_and_their_box_holds_the_union(altered):
    plain = read_prepared(altered(lambda name, labels: labels))[0]
    assert plain.targets.shape == plain.labels.shape
    folder = plain.folder.parent
    settings = json.loads((folder / "settings.json").read_text())
    settings["task"]["regions"] = [[2], [2]]
    (folder / "settings.json").write_text(json.dumps(settings))
    case = read_prepared(folder)[0]
    assert case.overlapping == ((2,), (2,))
    assert np.array_equal(case.targets, np.stack([plain.labels == 2] * 2))
    assert np.array_equal(case.mask(2), plain.labels == 2)
    spans = [(box.stop - box.start) for box in (case.regions["box"][0], plain.regions["box"][0])]
    assert spans[0] < spans[1]  # class 1 is in no region, and so background here


def test_the_posterior_of_regions_is_the_sum_of_their_classes(altered):
    folder = altered(lambda name, labels: labels, regions=((1, 2), (2,)))
    case = read_prepared(folder)[0]
    shape = (*case.labels.shape[-1:], *case.labels.shape[:2])
    probs = np.random.default_rng(0).dirichlet(np.ones(3), shape).astype(np.float32)
    probs = np.moveaxis(probs, -1, 1)  # (Z, K, X, Y): slices first on disk
    np.save(case.folder / "posterior.npy", probs)
    inside = np.moveaxis(probs, 0, -1)[1:]
    assert np.allclose(case.posterior[1], [inside.sum(axis=0), inside[1]], atol=1e-6)


def test_a_case_without_foreground_is_prepared_and_has_an_empty_box(altered):
    cases = read_prepared(altered(lambda name, labels: np.minimum(labels, 0)))
    for case in cases:
        assert case.labels[case.regions["box"]].size == 0
        assert case.labels[case.regions["whole"]].size
