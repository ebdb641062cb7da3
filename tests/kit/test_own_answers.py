"""What the page says of predictions of a special kind, from the files to the sentences."""

import json
import re

import matplotlib

matplotlib.use("Agg")

import nibabel as nib
import numpy as np
import pytest
from own_predictions import (
    AFFINE,
    LABELS,
    SHAPE,
    draw_labels,
    draw_probs,
    write_nnunet,
    write_study,
)
from own_predictions import write_volume as write

from segcal_lite.experiments.own_model import evaluate
from segcal_lite.kit.own_page import write_page
from segcal_lite.report.own_answers import three_answers
from segcal_lite.report.own_figures import draw_figures
from segcal_lite.report.own_tables import read_evaluation
from segcal_lite.runs.tables import read_table


def judged(given, out, draws=False, **options):
    """Evaluate; return the three short answers, all their sentences, and what was reported."""
    told = []
    evaluate(**given, out=out, n_workers=1, report=told.append, **options)
    if draws:
        draw_figures(out)
    answers = three_answers(read_evaluation(out))
    write_page(out)
    every = " ".join(s for answer in answers for s in (answer.short, *answer.sentences))
    return [answer.short for answer in answers], every, told


def empty(given, names, only_labels=False):
    """Let the truth, and the predictions, hold no segment in some cases."""
    for name in names:
        path = given["labels"] / f"{name}.nii.gz"
        nothing = np.zeros(nib.load(path).shape, np.uint8)
        write(path, nothing)
        for folder in () if only_labels else given["predictions"]:
            probs = draw_probs(nothing, np.random.default_rng(1))
            write_nnunet(folder, name, probs)


def test_patients_without_a_segment_are_no_evidence_of_calibration_or_overlap(tmp_path):
    given = write_study(tmp_path, n_cases=12, n_members=1)
    empty(given, [f"case_{k:03}" for k in range(4, 12)])
    (trust, _, _), every, _ = judged(given, tmp_path / "out")
    assert trust == "No conclusion: 4 patients, at least 10 needed."
    assert every.startswith(trust) and "In these 4 cases, and perhaps in no other, the ECE" in every
    summary = read_table(tmp_path / "out" / "tables" / "summary.csv")
    rows = summary[(summary.metric == "dice") & (summary.interval == "mean")]
    assert set(rows.n_cases) == {4} and set(rows.n_missing) == {8}


def test_a_segment_that_no_label_holds_is_a_reason_of_every_answer(tmp_path):
    given = write_study(tmp_path, n_cases=12, n_members=1)
    for path in given["labels"].glob("*.nii.gz"):
        labels = np.asarray(nib.load(path).dataobj)
        write(path, np.where(labels == 1, 0, labels).astype(np.uint8))
    (trust, correction, _), _, _ = judged(given, tmp_path / "out")
    assert "no label holds core" in trust and "nan" not in trust
    assert correction == f"That cannot be concluded: {trust.removeprefix('No conclusion: ')}"
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "where no label holds a segment" in page


def test_labels_without_any_segment_are_judged_in_the_whole_image(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=1)
    empty(given, [f"case_{k:03}" for k in range(3)], only_labels=True)
    (trust, _, _), every, _ = judged(given, tmp_path / "out")
    assert "no label holds core; no label holds rim" in trust
    assert "the ECE in the whole image is" in every and "nan" not in every
    assert "No label holds a segment, so no order could be tried on the labelled cases." in every
    assert "Nothing here measures doubt" not in every


def test_crops_in_which_nothing_was_predicted_are_said_to_be_missing(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=1, n_new=2)
    crop = (slice(2, 18), slice(2, 16), slice(1, 11))
    for path in tmp_path.rglob("*.npz"):
        probs = np.load(path)["probabilities"].transpose(0, 3, 2, 1)
        if path.stem in ("case_001", "case_003"):  # a labelled one, and a new one
            probs = np.broadcast_to(np.reshape([0.9, 0.05, 0.05], (3, 1, 1, 1)), probs.shape)
        part = probs[(slice(None), *crop)]
        segmentation = np.zeros(probs.shape[1:], np.uint8)
        segmentation[crop] = part.argmax(axis=0)
        write(path.with_name(f"{path.stem}.nii.gz"), segmentation)
        np.savez(path, softmax=part.transpose(0, 3, 2, 1).astype(np.float32))
    _, every, _ = judged(given, tmp_path / "out")
    told = "Missing from all means: 1 case (case_001), in which nothing was predicted"
    assert re.search(rf"mean Dice: core [^.]+\..*{re.escape(told)}", every)
    assert "case_003" in (tmp_path / "out" / "tables" / "left_out.csv").read_text()


def test_the_band_alone_is_judged_there(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=1)
    (trust, _, _), every, _ = judged(given, tmp_path / "out", regions=["band"])
    assert "hard labels" not in trust and "in the band along their boundary" in every
    assert "The band" in (tmp_path / "out" / "index.html").read_text(encoding="utf-8")


def test_one_patient_can_correct_and_not_tell_what_that_is_worth(tmp_path):
    given = write_study(tmp_path, n_cases=1, n_members=1)
    (_, correction, _), every, _ = judged(given, tmp_path / "out")
    assert correction == (
        "That cannot be told from one patient, to whom all corrections were fitted."
    )
    assert "In this case, and perhaps in no other" in every
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "correction.json" in page and "Cross-fitted" not in page


def test_a_list_without_scores_claims_no_order(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=2)
    for folder in (*given["predictions"], *given["new"]):
        for path in folder.glob("*.npz"):
            path.unlink()
    (_, _, doubtful), _, _ = judged(given, tmp_path / "out")
    assert doubtful == "The review list has 2 new cases in order of their names."
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "most doubtful" not in page and "The score is" not in page


@pytest.mark.parametrize(
    ("n_new", "told"), [(1, "The new case could not"), (2, "None of the 2 new cases could")]
)
def test_new_cases_that_were_all_left_out_are_not_said_to_be_missing(tmp_path, n_new, told):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=n_new)
    write_nnunet(given["new"][0], "case_002", np.full((3, *SHAPE), np.nan, np.float32))
    if n_new > 1:
        (given["new"][0] / "case_003.npz").unlink()
    (_, _, short), _, _ = judged(given, tmp_path / "out")
    assert short.startswith(f"{told} be read: see what was left out.")
    assert "No cases without labels" not in short


def test_the_page_says_what_the_ensemble_is_the_mean_of(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=2)
    judged(given, tmp_path / "out", members_averaged="logits")
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "is the mean of the members' logits." in page.replace("&#39;", "'")


def lean_to_a_class(given):
    """Make the model too fond of the class 2, which no temperature mends."""
    for path in given["predictions"][0].glob("*.npz"):
        probs = np.load(path)["probabilities"].transpose(0, 3, 2, 1).astype(np.float64)
        probs = (probs * np.array([1, 4.5, 7.4]).reshape(3, 1, 1, 1)) ** 1.3
        write_nnunet(path.parent, path.stem, (probs / probs.sum(axis=0)).astype(np.float32))


def test_vector_scaling_is_recommended_where_it_beats_the_temperature(tmp_path):
    given = write_study(tmp_path, n_cases=12, n_members=1, seed=1)
    lean_to_a_class(given)
    (_, correction, _), every, _ = judged(given, tmp_path / "out")
    table = read_table(tmp_path / "out" / "tables" / "differences.csv")
    wanted = (table.metric == "nll") & (table.region == "box")
    found = table[wanted].set_index(["method", "against"]).verdict.to_dict()
    rival = ("vector_scaling", "temperature")
    assert found == dict.fromkeys([*((m, "baseline") for m in rival[::-1]), rival], "better")
    assert correction.startswith("Vector scaling: NLL from")
    assert "Vector scaling against temperature scaling: ECE" in every
    assert "--write-corrected vector_scaling" in every
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "vector scaling against temperature scaling" in page


def test_of_a_model_that_segments_poorly_only_the_order_is_judged(tmp_path):
    given = write_study(tmp_path, n_cases=12, n_members=2, seed=1)
    for path in (path for folder in given["predictions"] for path in folder.glob("*.npz")):
        probs = np.load(path)["probabilities"].transpose(0, 3, 2, 1)
        write_nnunet(path.parent, path.stem, np.roll(probs, 5, axis=1))
    (trust, correction, doubtful), every, _ = judged(given, tmp_path / "out")
    poor = trust.removeprefix("No conclusion: ")
    assert poor.startswith("mean Dice 0.00 (core), at least 0.5 needed; mean Dice 0.")
    assert correction == f"That cannot be concluded: {poor}"
    table = read_table(tmp_path / "out" / "tables" / "differences.csv")
    assert set(table.verdict) == {"no conclusion"}
    verdicts = read_table(tmp_path / "out" / "tables" / "aurc.csv").verdict
    assert "no conclusion" not in set(verdicts) and "cannot be concluded" not in doubtful
    page = (tmp_path / "out" / "index.html").read_text(encoding="utf-8")
    assert "Only the order of review is judged of such a model" in page


def test_of_two_cases_a_person_looks_at_one(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1)
    _, every, _ = judged(given, tmp_path / "out")
    assert "looks at the most doubtful 50 %" in every
    assert "cannot be concluded: 2 patients, at least 10 needed" in every


def test_of_probabilities_without_error_none_is_called_too_high_or_too_low(tmp_path):
    given = write_study(tmp_path, n_cases=10, n_members=1)
    for path in given["predictions"][0].glob("*.npz"):
        labels = np.asarray(nib.load(given["labels"] / f"{path.stem}.nii.gz").dataobj)
        probs = np.stack([labels == k for k in range(3)]).astype(np.float32)
        probs[:, 0, 0, 0] = 1, 1e-20, 0  # with 0 and 1 alone they would be hard labels
        write_nnunet(path.parent, path.stem, probs)
    (trust, _, _), every, _ = judged(given, tmp_path / "out")
    assert trust.endswith("(95 % interval 0 to 0) on average.")
    assert "too high" not in every and "too low" not in every and "largest part" not in every


def review_text(page):
    """The paragraph above the review list, and what stands for its pictures."""
    text = page.read_text(encoding="utf-8").split('id="review"')[1].split('id="figures"')[0]
    return text.split("</p>")[0].split("<p>")[1], re.findall(r'alt="([^"]+)"', text)


def test_the_page_tells_of_pictures_what_was_drawn(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=2)
    images = given.pop("images")
    out = tmp_path / "out"
    first = "Cases without labels, the most doubtful first. The pictures show one slice of each:"
    doubt = "where the model is in doubt (bright)"
    judged(given, out, draws=True)
    told, pictures = review_text(out / "index.html")
    assert told == f"{first} prediction and {doubt}."
    assert sorted(pictures) == [f"Prediction, entropy of case_00{k}" for k in (2, 3)]
    (images[0] / "case_003_0000.nii.gz").unlink()
    judged(given, out, images=images, draws=True)
    told, pictures = review_text(out / "index.html")
    assert told == f"{first} image (where there is one), prediction and {doubt}."
    assert "Image, prediction, entropy of case_002" in pictures
    for path in (path for f in (*given["predictions"], *given["new"]) for path in f.glob("*.npz")):
        path.unlink()
    judged(given, out, draws=True)
    told, pictures = review_text(out / "index.html")
    assert told == "Cases without labels. The pictures show one slice of each: prediction."
    assert pictures == ["Prediction of case_002", "Prediction of case_003"]


def test_a_name_that_looks_like_a_formula_has_its_figures(tmp_path):
    given = write_study(tmp_path, 5, 1, n_new=1, labels={"background": 0, "$a$b_{": 1, "rim": 2})
    for path in sorted(tmp_path.rglob("case_00*")):
        path.rename(path.with_name(path.name.replace("case_00", "p$1_$")))
    judged(given, tmp_path / "out", draws=True)
    drawn = {path.stem for path in (tmp_path / "out" / "figures").glob("*.png")}
    assert {"reliability_worst", "entropy_against_dice", "review_1"} <= drawn


def test_a_folder_given_twice_is_no_ensemble(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1)
    given["predictions"] *= 2
    with pytest.raises(ValueError, match="predictions: found .*fold_0 twice, expected the folder"):
        judged(given, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_what_is_left_out_is_told_at_once(tmp_path):
    given = write_study(tmp_path, n_cases=4, n_members=1)
    for name in ("case_000", "case_001"):
        (given["labels"] / f"{name}.nii.gz").unlink()
    _, _, told = judged(given, tmp_path / "out")
    assert f"left out: case_000, case_001: a prediction, but no label ({given['labels']})" in told


@pytest.mark.parametrize("damage", ["NaN", "elsewhere"])
def test_an_image_that_cannot_be_shown_takes_no_case_away(tmp_path, damage):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=1)
    path = given["images"][0] / "case_002_0000.nii.gz"
    image = np.asarray(nib.load(path).dataobj).copy()
    if damage == "NaN":
        image[:3] = np.nan
    write(path, image if damage == "NaN" else image[::2])
    judged(given, tmp_path / "out", write_corrected="temperature")
    tables = tmp_path / "out" / "tables"
    assert read_table(tables / "review.csv").case.tolist() == ["case_002"]
    assert read_table(tables / "left_out.csv").empty
    notes = read_table(tables / "notes.csv").set_index("note").cases
    assert notes.filter(like="it is not shown").tolist() == ["case_002"]
    written = nib.load(tmp_path / "out" / "probabilities" / "temperature" / "case_002.nii.gz")
    assert written.shape == (20, 18, 12, 3)


def test_expected_volumes_compare_what_was_annotated(tmp_path):
    given = write_study(tmp_path, n_cases=8, n_members=1, n_new=1, labels=LABELS | {"ignore": 3})
    rng = np.random.default_rng(5)
    for path in sorted(given["labels"].glob("*.nii.gz")):  # half of each label is not annotated
        classes = draw_labels(rng)
        write_nnunet(given["predictions"][0], path.name[:8], draw_probs(classes, rng, 30.0))
        classes[: classes.shape[0] // 2] = 3
        write(path, classes, AFFINE)
    judged(given, tmp_path / "out")
    scores = read_table(tmp_path / "out" / "tables" / "scores.csv")
    rim = scores[(scores.segment == "rim") & (scores.method == "baseline")]
    ml = rim.pivot_table(index="case", columns="metric", values="value")
    assert (ml.predicted_ml / ml.true_ml).between(0.7, 1.4).all()
    review = read_table(tmp_path / "out" / "tables" / "review.csv").iloc[0]
    assert 0.7 < review["rim expected_ml"] / review["rim volume_ml"] < 1.4


def test_without_names_a_damaged_label_is_left_out_and_the_others_go_on(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=1)
    (tmp_path / "dataset.json").unlink()
    path = given["labels"] / "case_001.nii.gz"
    path.write_bytes(path.read_bytes()[:200])
    judged(given, tmp_path / "out")
    assert read_table(tmp_path / "out" / "tables" / "left_out.csv").case.tolist() == ["case_001"]
    assert json.loads((tmp_path / "out" / "evaluation.json").read_text())
