"""The same command once more, with something changed: what is told follows what is there."""

import json
import shutil

import nibabel as nib
import numpy as np
import pytest
from own_predictions import AFFINE, LABELS, write_nnunet, write_study, write_volume

from segcal_lite.data.volumes import read_volume
from segcal_lite.experiments.own_model import evaluate
from segcal_lite.experiments.own_model.labelled_cases import KEPT
from segcal_lite.runs.arrays import read_arrays
from segcal_lite.runs.tables import read_table

QUIET = {"report": lambda line: None, "n_workers": 1}


def mean_dice(out):
    scores = read_table(out / "tables" / "scores.csv")
    return scores[(scores.metric == "dice") & (scores.method == "baseline")].value.mean()


def test_an_order_of_classes_that_is_mended_is_read_anew(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1)
    swapped = {"background": 0, "rim": 1, "core": 2}
    path = given["predictions"][0] / "dataset.json"
    path.write_text(json.dumps({"labels": swapped, "file_ending": ".nii.gz"}))
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    assert mean_dice(out) < 0.1
    path.write_text(json.dumps({"labels": LABELS, "file_ending": ".nii.gz"}))
    evaluate(**given, out=out, **QUIET)
    assert mean_dice(out) > 0.5


@pytest.fixture
def written(tmp_path):
    """An evaluation whose corrected probabilities were asked for."""
    given = write_study(tmp_path, n_cases=3, n_members=1, n_new=1)
    out = evaluate(**given, out=tmp_path / "out", write_corrected="both", **QUIET)
    return given, out


def names_in(folder):
    return sorted(path.name for path in folder.rglob("*.nii.gz"))


def test_written_probabilities_that_were_removed_are_written_again(written):
    given, out = written
    assert len(names_in(out / "probabilities")) == 8
    shutil.rmtree(out / "probabilities" / "temperature")
    evaluate(**given, out=out, write_corrected="temperature", **QUIET)
    assert len(names_in(out / "probabilities" / "temperature")) == 4


def test_written_probabilities_stay_as_long_as_they_are_those_of_the_tables(written):
    given, out = written
    before = {path: path.stat().st_mtime_ns for path in (out / "probabilities").rglob("*.gz")}
    evaluate(**given, out=out, **QUIET)  # not asked for, and current
    assert before == {p: p.stat().st_mtime_ns for p in (out / "probabilities").rglob("*.gz")}
    (given["labels"] / "case_001.nii.gz").unlink()  # another correction, and a case less
    evaluate(**given, out=out, **QUIET)
    assert names_in(out / "probabilities") == []


def test_probabilities_and_corrections_go_when_hard_labels_come(written):
    given, out = written
    for folder in (*given["predictions"], *given["new"]):
        for path in folder.glob("*.npz"):
            path.unlink()
    evaluate(**given, out=out, **QUIET)
    assert not (out / "correction.json").exists() and names_in(out / "probabilities") == []


def test_what_an_interrupted_call_kept_goes_with_the_next(written):
    given, out = written
    (out / KEPT).mkdir(exist_ok=True)
    np.save(out / KEPT / "case_000.npy", np.zeros(3))
    evaluate(**given, out=out, **QUIET)
    assert not list(out.rglob("*.npy"))


def files_below(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize(
    ("kind", "place"), [("new", "new"), ("predictions", "probabilities/fold_0"), ("labels", "new")]
)
def test_nothing_is_written_where_something_is_read(tmp_path, kind, place):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=1)
    folder = given[kind] if kind == "labels" else given[kind][0]
    (tmp_path / place).parent.mkdir(exist_ok=True)
    folder.rename(tmp_path / place)
    given[kind] = tmp_path / place
    before = files_below(tmp_path)
    with pytest.raises(ValueError, match=f"out: .*{place} is read, expected a folder of its own"):
        evaluate(**given, out=tmp_path, **QUIET)
    assert files_below(tmp_path) == before


def test_folders_of_others_stay_beside_what_is_written(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1)
    others = [tmp_path / "probabilities" / "mine" / "odd.nii.gz", tmp_path / "kept" / "odd.npy"]
    for path in others:
        path.parent.mkdir(parents=True)
        path.write_bytes(b"somebody's")
    evaluate(**given, out=tmp_path, **QUIET)
    assert [path.read_bytes() for path in others] == [b"somebody's"] * 2


def test_images_are_found_by_the_whole_name_of_a_case_and_others_are_told(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=1)
    for path in sorted(tmp_path.rglob("case_*")):
        path.rename(path.with_name(path.name.replace("_0000.", ".").replace("case_", "case_0")))
    shutil.copy(
        tmp_path / "imagesTr" / "case_0002.nii.gz", tmp_path / "imagesTr" / "odd_0000.nii.gz"
    )
    told = []
    out = evaluate(**given, out=tmp_path / "out", report=told.append, n_workers=1)
    assert "image" in read_arrays(out / "new" / "case_0002.npz")
    assert "images that belong to no case: odd_0000" in told


def with_qform_elsewhere(path, mm=9.0):
    """Write a volume anew with a qform that lies some mm off its sform."""
    image = nib.load(path)
    image = nib.Nifti1Image(np.asarray(image.dataobj), image.affine)
    qform = image.affine.copy()
    qform[0, 3] += mm
    image.set_sform(image.affine, code=1)
    image.set_qform(qform, code=1)
    nib.save(image, path)


@pytest.mark.filterwarnings("error")
def test_doubts_about_headers_are_notes_and_no_warnings(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=2, n_new=1)
    (tmp_path / "dataset.json").unlink()  # so that label values are looked for, too
    for case, mm in (("case_000", 9.0), ("case_001", 7.0)):
        with_qform_elsewhere(given["labels"] / f"{case}.nii.gz", mm)
    with_qform_elsewhere(given["images"][0] / "case_003_0000.nii.gz")
    notes = read_table(evaluate(**given, out=tmp_path / "out", **QUIET) / "tables" / "notes.csv")
    notes = notes.set_index("cases").note
    apart = "sform and qform place voxels up to 9 mm apart"
    assert notes["case_000, case_001"].startswith(f"header of the label: {apart}")
    assert "numbers of case_000; others have their own" in notes["case_000, case_001"]
    assert notes["case_003"].startswith(f"header of the image: {apart}") and len(notes) == 2


def test_notes_that_differ_in_their_numbers_share_a_row(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=1)
    for k in range(3):
        path = given["labels"] / f"case_{k:03}.nii.gz"
        affine = AFFINE.copy()
        affine[0, 3] += 0.5 + 0.1 * k
        write_volume(path, np.asarray(nib.load(path).dataobj), affine)
    notes = read_table(evaluate(**given, out=tmp_path / "out", **QUIET) / "tables" / "notes.csv")
    assert notes.n_cases.tolist() == [3] and "against its label by 0.5 mm" in notes.note[0]


def test_without_label_and_image_a_member_is_moved_against_the_first(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=2, n_new=1) | {"images": []}
    affine = AFFINE.copy()
    affine[0, 3] += 0.5
    probs = np.load(given["new"][1] / "case_002.npz")["probabilities"].transpose(0, 3, 2, 1)
    write_nnunet(given["new"][1], "case_002", probs, affine)
    notes = read_table(evaluate(**given, out=tmp_path / "out", **QUIET) / "tables" / "notes.csv")
    told = "moved against its first member by 0.5 mm, less than half a voxel; the first member's"
    assert notes.note.tolist() == [f"header of the prediction: {told} place is in force."]


def test_an_image_that_comes_later_is_shown(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=1)
    images = given.pop("images")
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    shown = out / "new" / "case_002.npz"
    assert "image" not in read_arrays(shown)
    evaluate(**given, images=images, out=out, **QUIET)
    image = read_volume(images[0] / "case_002_0000.nii.gz").data
    drawn = read_arrays(shown)["image"]
    assert any(np.array_equal(drawn, image[..., z]) for z in range(image.shape[-1]))
