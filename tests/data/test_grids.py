import json
from dataclasses import replace
from types import SimpleNamespace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from conftest import write_discs
from hypothesis import given
from hypothesis import strategies as st

from segcal_lite.data.cases import Selection
from segcal_lite.data.datasets import read_dataset, task_of
from segcal_lite.data.grids import (
    check_cut,
    common_slice_axis,
    cut_shares,
    describe_cut,
    enough_crop,
    fit_to_crop,
    kept_native_voxels,
    settle_grid,
)
from segcal_lite.data.labels import Extent, segment_values, stored_survey, survey
from segcal_lite.data.prepared import prepare_dataset
from segcal_lite.data.preprocessing import plan_preprocessing, prepare_label
from segcal_lite.data.tasks import TASKS, Task
from segcal_lite.experiments.case_scores import Scoring, _sweep_rows
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.experiments.scores import score_case
from segcal_lite.experiments.settled import settle
from segcal_lite.experiments.volume_scores import probability_metrics
from segcal_lite.runs.folders import write_json

TINY = {"n_epochs": 1, "n_members": 1, "n_passes": 2, "widths": (4, 8)}


def silent(line):
    pass


def extent(sizes_mm=(1.0, 1.0, 3.0), shape=(40, 40, 6), box=None, name="a", split="train"):
    box = (slice(18, 22), slice(18, 22), slice(0, 6)) if box is None else box
    case = SimpleNamespace(name=name, domain="source", split=split, label_path=None)
    return Extent(case, shape, np.diag([*sizes_mm, 1.0]), {1: box})


def task(spacing_mm=(1.0, 1.0, None), **changes):
    made = Task("own", ("MR",), ("ring",), spacing_mm, (1.0,), (1, 1, 1), **changes)
    return replace(made, box_dilation_mm=changes.get("box_dilation_mm", 2.0))


def test_slices_lie_along_one_axis_in_all_volumes_of_a_dataset():
    """Of two voxel sizes on both sides of the ratio of 1.5, neither decides for itself."""
    both = [extent((1.001, 1.5, 1.001), name="a"), extent((0.9375, 1.5, 0.9375), name="b")]
    axis, notes = common_slice_axis(both)
    assert axis == 1
    assert notes == [
        "slices are coronal in all volumes, though 1 by their own voxel sizes would be cut along "
        "another axis: a"
    ]
    assert common_slice_axis(both[1:]) == (1, [])
    few = [extent((1.0, 1.0, 4.0), name=str(n)) for n in range(3)] + both[1:]
    assert common_slice_axis(few)[0] == 2


def test_the_axis_is_anatomical_however_the_volume_is_stored():
    sagittal = np.zeros((4, 4))
    sagittal[[2, 0, 1, 3], [0, 1, 2, 3]] = 1, 5, -1, 1  # stored as S, R, P; 5 mm towards the right
    case = SimpleNamespace(name="a")
    assert common_slice_axis([Extent(case, (9, 5, 9), sagittal, {})]) == (0, [])
    record = plan_preprocessing((9, 5, 9), sagittal, slice_axis=0)
    assert record.axes == (2, 0, 1)


def test_voxels_grow_until_the_crop_holds_the_foreground_with_its_margin():
    """8 voxels left of the centre, twice, and 2 mm on both sides: 20 mm for 16 voxels."""
    left = extent(box=(slice(12, 22), slice(18, 22), slice(0, 6)))
    fitted, (note,) = fit_to_crop(task(), (16, 16), [left, extent()], axis=2)
    assert fitted.spacing_mm == (1.25, 1.25, None)
    assert note.startswith("voxels of 1.25 x 1.25 mm, coarser than the data's 1 x 1, let 16 x 16")
    assert fit_to_crop(task(), (32, 32), [left], axis=2) == (task(), [])
    assert fit_to_crop(task(), (16, 16), [replace_split(left, "test")], axis=2) == (task(), [])


def replace_split(one, split):
    return replace(one, case=SimpleNamespace(name="a", domain="source", split=split))


def test_voxels_never_grow_beyond_the_image():
    whole = extent(box=(slice(0, 40), slice(0, 40), slice(0, 6)))
    assert fit_to_crop(task(), (16, 16), [whole], axis=2)[0].spacing_mm == (2.5, 2.5, None)


def test_in_3d_slices_grow_apart_from_the_plane():
    whole = extent(box=(slice(16, 24), slice(18, 22), slice(0, 6)))
    fitted, _ = fit_to_crop(task(), (16, 16, 4), [whole], axis=2)
    assert fitted.spacing_mm == (1.0, 1.0, 4.5)  # 18 mm in 4 voxels


def test_the_share_cut_away_is_that_of_the_voxels_on_file(tmp_path):
    folder = write_discs(tmp_path / "discs", n_cases=6)
    labels = np.zeros((24, 24, 3), dtype=np.uint8)
    labels[2:12, 10:14] = 1  # 10 columns; a crop of 16 keeps those from index 4 on: 8
    labels[12:14, 12] = 2
    affine = np.diag([-2.0, 2.0, 8.0, 1.0])  # stored from right to left
    for part, file in (("labelsTr", "disc1"), ("imagesTr", "disc1_0000")):
        nib.save(nib.Nifti1Image(labels, affine), folder / part / f"{file}.nii.gz")
    dataset = read_dataset(folder)
    cut = cut_shares(survey(dataset), segment_values(dataset), task_of(dataset), (16, 16), 2)
    of_case = cut.set_index(["case", "segment"]).cut
    assert of_case["disc1", "ring"] == pytest.approx(0.2)
    assert of_case["disc1", "core"] == 0
    assert describe_cut(cut[cut.case == "disc1"]) == [
        "the crop cuts away 20.0 % of ring on average, at most 20.0 % (disc1)"
    ]


@given(st.data())
def test_kept_voxels_are_those_that_a_crop_shows(data):
    """Without resampling the crop of a label holds exactly the kept voxels, however stored."""
    shape = data.draw(st.tuples(*[st.integers(2, 12)] * 3))
    signs = data.draw(st.tuples(*[st.sampled_from([-1.0, 1.0])] * 3))
    axes = list(data.draw(st.permutations(range(3))))
    crop = data.draw(st.lists(st.integers(1, 12), min_size=2, max_size=3))
    affine = np.zeros((4, 4))
    affine[axes, range(3)], affine[3, 3] = signs, 1
    record = plan_preprocessing(shape, affine, None, tuple(crop))
    labels = np.arange(1, np.prod(shape) + 1).reshape(shape)
    shown = np.unique(prepare_label(labels, record))
    assert set(shown[shown > 0]) == set(labels[kept_native_voxels(record)].ravel().tolist())


def test_voxels_that_end_short_of_the_last_one_cut_nothing():
    """Three voxels of 3 mm for ten of 1 mm: the tenth lies beyond their edge, and is no crop."""
    record = plan_preprocessing((10, 10, 4), np.eye(4), (3, 3, None))
    assert record.resampled_shape == (3, 3, 4)
    assert kept_native_voxels(record) == (slice(0, 10), slice(0, 10), slice(0, 4))
    cropped = plan_preprocessing((10, 10, 4), np.eye(4), (3, 3, None), (2, 4))
    assert kept_native_voxels(cropped)[0] != slice(0, 10)
    assert kept_native_voxels(cropped)[1] == slice(0, 10)


def test_a_crop_that_cuts_needs_a_yes_before_anything_is_written(discs, tmp_path, monkeypatch):
    out = tmp_path / "run"
    dataset = read_dataset(discs)
    found = r"discs: found .* of ring on average.*take crop_size \(32, 32\)"
    with pytest.raises(ValueError, match=found):
        check_cut(settle_grid(dataset, task_of(dataset), (8, 8)), "discs")
    monkeypatch.setitem(TASKS, "discs", replace(task_of(dataset), name="discs"))
    options = {"crop_size": (4, 4), "device": "cpu", "report": silent, "profile": "paper"}
    with pytest.raises(ValueError, match="discs, crop_size .* or cut_foreground=True"):
        open_experiment(out, discs, task="discs", **options, **TINY)
    assert not (out / "run.json").exists() and not (out / "prepared").exists()
    cut = open_experiment(out, discs, task="discs", cut_foreground=True, **options, **TINY)
    assert cut.task.spacing_mm[0] == 2 and cut.grid.cuts_much


def test_a_named_task_keeps_its_voxels_while_next_to_nothing_is_lost(discs, monkeypatch):
    dataset = read_dataset(discs)
    named = replace(task_of(dataset), name="discs")
    monkeypatch.setitem(TASKS, "discs", named)
    assert settle(dataset, "discs", crop_size=(32, 32))[0] == named
    coarse, _, grid = settle(dataset, "discs", crop_size=(16, 16))
    assert coarse.spacing_mm[0] > 2 and grid.notes[0].startswith("voxels of")


def test_a_survey_is_kept_until_a_label_changes(tmp_path):
    dataset = read_dataset(write_discs(tmp_path / "discs"))
    first = stored_survey(tmp_path / "survey.json", dataset)
    again = stored_survey(tmp_path / "survey.json", dataset)
    for one, other in zip(first, again, strict=True):
        assert (one.case, one.shape, one.boxes) == (other.case, other.shape, other.boxes)
        assert np.array_equal(one.affine, other.affine)
    stored = json.loads((tmp_path / "survey.json").read_text())
    assert len(stored["extents"]) == 6
    empty = np.zeros((24, 24, 3), dtype=np.uint8)
    empty[0, 0, 0] = 1
    nib.save(nib.Nifti1Image(empty, np.eye(4)), dataset.cases[0].label_path)
    changed = stored_survey(tmp_path / "survey.json", dataset)[0]
    assert changed.boxes == {1: (slice(0, 1), slice(0, 1), slice(0, 1))}


def test_a_survey_notices_a_mended_voxel_size_beside_a_picture(tmp_path):
    sitk = pytest.importorskip("SimpleITK")
    for folder, end in (("imagesTr", "_0000"), ("labelsTr", "")):
        (tmp_path / folder).mkdir()
        for shift, name in enumerate("abc"):
            pixels = np.eye(16, k=shift, dtype=np.uint8)
            sitk.WriteImage(sitk.GetImageFromArray(pixels), tmp_path / folder / f"{name}{end}.png")
    channels, labels = {"0": "x"}, {"background": 0, "s": 1}
    told = {"channel_names": channels, "labels": labels, "file_ending": ".png", "numTraining": 3}
    (tmp_path / "dataset.json").write_text(json.dumps(told))
    beside = tmp_path / "labelsTr/a.json"
    for size_mm in (10, 1):
        beside.write_text(json.dumps({"spacing": [1, size_mm, size_mm]}))
        extent = stored_survey(tmp_path / "survey.json", read_dataset(tmp_path))[0]
        assert nib.affines.voxel_sizes(extent.affine).tolist() == [size_mm, size_mm, 1]


def test_a_selection_looks_at_its_organ_only(discs):
    dataset = read_dataset(discs)
    organ = survey(dataset, Selection(0, (2,)))
    assert all(set(one.boxes) == {2} for one in organ)
    assert segment_values(dataset, Selection(0, (1, 2))) == {"the organ": [1, 2]}


def test_named_tasks_keep_their_voxels_and_others_fit_them(discs):
    dataset = read_dataset(discs)
    fitted, profile, grid = settle(dataset, profile="smoke", crop_size=(16, 16))
    assert fitted.spacing_mm[0] > 2 and profile.crop_size == (16, 16)
    assert not grid.cut.cut.any()
    assert grid.notes[0].startswith("voxels of ")


def test_enough_crop_is_enough(discs):
    dataset = read_dataset(discs)
    extents = survey(dataset)
    size = enough_crop(task_of(dataset), 2, extents, 2)
    assert size == (32, 32)  # 18 voxels at most, and 4 on both sides
    cut = cut_shares(extents, segment_values(dataset), task_of(dataset), size, 2)
    assert not cut.cut.any()


def test_scores_of_the_patient_count_what_the_crop_lost(discs, tmp_path):
    """Dice of an ideal prediction is 2 kept / (kept + all), its distance reaches the rim."""
    dataset = read_dataset(discs)
    own = task_of(dataset)
    grid = settle_grid(dataset, own, (8, 8))
    lines = []
    cases = prepare_dataset(dataset, own, (8, 8), tmp_path, lines.append, grid=grid)
    assert any(line.startswith("the crop cuts away") for line in lines)
    case = cases[0]
    inside = np.asarray(case.labels[case.regions["whole"]])
    labels, predicted = case.patient_labels, case.on_patient(inside)
    native = nib.load(dataset.cases[0].label_path).get_fdata()
    assert np.array_equal(labels, native)
    assert np.array_equal(predicted[8:16, 8:16], inside)
    assert np.count_nonzero(predicted) == np.count_nonzero(inside)
    lost = np.bincount(native.astype(int).ravel())[1:] - np.bincount(inside.ravel())[1:]
    assert case.n_cut_away(2).tolist() == lost.tolist() and lost[0] > 0
    again = []
    prepare_dataset(dataset, own, (8, 8), tmp_path, again.append)
    assert again == [line for line in lines if "crop cuts" in line]


def test_every_dice_and_distance_is_of_the_patient(discs, tmp_path):
    """An ideal prediction of the crop misses what lies outside it, in rows, sweep and volumes."""
    dataset = read_dataset(discs)
    own = task_of(dataset)
    grid = settle_grid(dataset, own, (8, 8))
    case = prepare_dataset(dataset, own, (8, 8), tmp_path, silent, grid=grid)[0]
    probs = np.stack([np.asarray(case.labels) == k for k in range(3)]).astype(np.float32)
    native = nib.load(dataset.cases[0].label_path).get_fdata()
    n_all, n_kept = np.count_nonzero(native == 1), np.count_nonzero(probs[1])
    expected = 2 * n_kept / (n_all + n_kept)
    assert 0 < expected < 0.9
    rows = pd.DataFrame(score_case(case, probs, ("ring", "core"), n_bins=10).rows)
    ring = rows[rows.segment == "ring"].set_index("metric").value
    assert ring.dice == pytest.approx(expected)
    rim_mm = ring.hd95_mm
    assert rim_mm > 2 and ring.n_empty == 0
    scoring = Scoring(tmp_path, "ce", (), (), ("ring", "core"), (1,), 1, 1, 10, 0)
    sweep = pd.DataFrame(_sweep_rows(scoring, case, probs[None], "cpu"))
    both = [ring.dice, rows[rows.segment == "core"].set_index("metric").value.dice]
    assert sweep[sweep.metric == "dice"].value.tolist() == pytest.approx([np.mean(both)] * 2)
    ring = Selection(0, (1,))
    grid = settle_grid(dataset, own, (8, 8), ring)
    organ = prepare_dataset(dataset, own, (8, 8), tmp_path / "organ", silent, ring, grid)[0]
    found = probability_metrics(
        organ, np.stack([1 - probs[1], probs[1]]), SimpleNamespace(n_bins=10)
    )
    assert found["dice"] == pytest.approx(expected)
    assert found["hd95_mm"] == pytest.approx(rim_mm)


def write_small(folder, n_small):
    """An organ of 96 columns of 100 and, in some cases, a tumour of one column."""
    write_discs(folder, n_cases=6)
    for number in range(6):
        labels = np.zeros((100, 100, 2), dtype=np.uint8)
        labels[2:98, 2:98] = 1
        if number < n_small:
            labels[50, 50] = 2
        for part, file in (("labelsTr", f"disc{number}"), ("imagesTr", f"disc{number}_0000")):
            path = folder / part / f"{file}.nii.gz"
            nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 5.0, 1.0])), path)
    return read_dataset(folder)


def test_a_segment_that_larger_voxels_lose_is_named_at_each_opening(tmp_path):
    dataset = write_small(tmp_path / "small", n_small=2)
    known, profile, grid = settle(dataset, crop_size=(32, 32))
    assert known.spacing_mm[0] > 3 and not grid.cuts_much
    for _ in range(2):
        lines = []
        prepare_dataset(dataset, known, profile.crop_size, tmp_path / "p", lines.append, grid=grid)
        (found,) = [line for line in lines if "too small" in line]
        assert found.startswith("core is too small for these voxels in 2 cases (disc0, disc1)")
    (tmp_path / "p" / "cases.csv").unlink()  # killed behind the last case, before it was looked at
    write_json(tmp_path / "p" / "grid.json", {"slice_axis": 2, "notes": []})
    lines = []
    prepare_dataset(dataset, known, profile.crop_size, tmp_path / "p", lines.append, grid=grid)
    assert sum("too small" in line for line in lines) == 1
    quiet = []
    prepare_dataset(dataset, task_of(dataset), (112, 112), tmp_path / "q", quiet.append)
    assert not any("too small" in line for line in quiet)


def test_the_penalty_of_an_empty_prediction_does_not_depend_on_the_crop(tmp_path):
    """Two patients of one grid, one with foreground beyond the crop: one penalty."""
    dataset = write_small(tmp_path / "small", n_small=6)
    labels = np.zeros((100, 100, 2), dtype=np.uint8)
    labels[45:55, 45:55] = 1
    path = dataset.cases[0].label_path
    nib.save(nib.Nifti1Image(labels, np.diag([1.0, 1.0, 5.0, 1.0])), path)
    own = task_of(dataset)
    grid = settle_grid(dataset, own, (64, 64))
    cases = prepare_dataset(dataset, own, (64, 64), tmp_path / "p", silent, grid=grid)
    assert cases[0].patient_labels.shape == cases[1].patient_labels.shape == (100, 100, 2)
    assert np.array_equal(cases[0].patient_labels, labels)
    assert cases[0].n_cut_away(2).tolist() == [0, 0]
    silence = np.stack([np.ones((64, 64, 2)), np.zeros((64, 64, 2)), np.zeros((64, 64, 2))])
    rows = [score_case(c, silence, ("ring", "core"), n_bins=10).rows for c in cases[:2]]
    first, second = (
        [row["value"] for row in found if row["metric"] == "hd95_mm"][0] for found in rows
    )
    assert first == second == pytest.approx(np.linalg.norm([100, 100, 10]))


def test_volumes_of_other_slices_fit_a_crop_in_3d():
    """The crop is for one voxel size: that of the median, along the slices as well."""
    whole = slice(0, 40), slice(0, 40), slice(0, 30)
    thick = [extent((1.0, 1.0, 3.0), (40, 40, 30), whole, name=str(n)) for n in range(6)]
    mixed = [*thick, extent((1.0, 1.0, 1.0), (40, 40, 90), (*whole[:2], slice(0, 90)), name="7")]
    fitted, _ = fit_to_crop(task(), (48, 48, 48), mixed, axis=2)
    assert fitted.spacing_mm == (1.0, 1.0, 3.0)
    assert not cut_shares(mixed, {"ring": [1]}, fitted, (48, 48, 48), 2).cut.any()


def test_nothing_cut_is_nothing_said():
    cut = pd.DataFrame([("a", "ring", 0.0)], columns=["case", "segment", "cut"])
    assert describe_cut(cut) == []
    little = pd.DataFrame([("a", "ring", 1e-4)], columns=["case", "segment", "cut"])
    assert "less than 0.1 % of ring" in describe_cut(little)[0]
