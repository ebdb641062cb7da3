import json
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from own_predictions import (
    AFFINE,
    SHAPE,
    draw_labels,
    draw_probs,
    write_nnunet,
    write_study,
    write_volume,
)

from segcal_lite.calibration import nll
from segcal_lite.data.volumes import read_volume
from segcal_lite.experiments.own_model import evaluate, evaluation, members
from segcal_lite.experiments.own_model.tables import risks_and_doubts
from segcal_lite.runs.arrays import read_arrays
from segcal_lite.runs.tables import read_table

QUIET = {"report": lambda line: None, "n_workers": 1}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """A whole evaluation with new cases: its folders, and where it went."""
    root = tmp_path_factory.mktemp("study")
    given = write_study(root, n_cases=6, n_members=2, n_new=2)
    return given, evaluate(**given, out=root / "out", **QUIET)


def value(table, **where):
    """The one value of a long table that fits."""
    for column, wanted in where.items():
        table = table[table[column].isna() if wanted is None else table[column] == wanted]
    assert len(table) == 1, (where, len(table))
    return table.value.iloc[0]


def probs_of(folder, case):
    """A member's probabilities as they lie on file, (K, X, Y, Z)."""
    return np.load(folder / f"{case}.npz")["probabilities"].transpose(0, 3, 2, 1)


def test_members_and_their_ensemble_are_scored_as_their_files_say(study):
    given, out = study
    scores = read_table(out / "tables" / "scores.csv")
    labels = read_volume(given["labels"] / "case_002.nii.gz").data
    members = [probs_of(folder, "case_002") for folder in given["predictions"]]
    of = {"case": "case_002", "region": "whole", "metric": "nll", "segment": None}
    for index, probs in enumerate(members):
        found = value(scores, method="baseline", member=index, **of)
        assert found == pytest.approx(nll(labels, probs), abs=1e-9)
    found = value(scores, method="ensemble", **of)
    mean = np.mean(members, axis=0, dtype=np.float64).astype(np.float32)
    assert found == pytest.approx(nll(labels, mean), abs=1e-9)
    assert set(scores.region.dropna()) == {"whole", "box", "band"}
    assert set(scores.method) == {"baseline", "ensemble", "temperature", "vector_scaling"}


def test_corrections_lower_the_nll_of_cases_that_they_were_not_fitted_to(study):
    scores = read_table(study[1] / "tables" / "scores.csv")
    rows = scores[(scores.metric == "nll") & (scores.region == "whole")]
    means = rows.groupby("method").value.mean()
    assert means.temperature < means.ensemble and means.vector_scaling < means.ensemble
    dice = scores[scores.metric == "dice"].pivot(
        index=["case", "segment"], columns=["method", "member"], values="value"
    )
    assert (dice["temperature"][0] == dice["ensemble"][0]).all()  # no arg max moves


def test_a_case_has_no_part_in_its_own_correction(study, tmp_path):
    given, out = study
    fitted = json.loads((out / "correction.json").read_text())
    assert set(fitted["without the patient of"]) == {f"case_{k:03}" for k in range(6)}
    temperatures = {c["temperature"] for c in fitted["without the patient of"].values()}
    assert len(temperatures) > 1 and fitted["of all"]["temperature"] > 0


def test_new_cases_are_listed_most_doubtful_first(study):
    review = read_table(study[1] / "tables" / "review.csv")
    assert set(review.case) == {"case_006", "case_007"} and review["rank"].tolist() == [1, 2]
    assert review["core volume_ml"].gt(0).all()


def test_no_probabilities_stay_unless_asked_for(study):
    assert not list(study[1].rglob("*.nii.gz")) and not list(study[1].rglob("*.npy"))


def test_a_disk_without_room_changes_no_number(study, tmp_path, monkeypatch):
    given, out = study
    monkeypatch.setattr(evaluation, "SHARE_OF_DISK", 0.0)
    again = evaluate(**given, out=tmp_path / "out", **QUIET)
    names = ("scores", "summary", "review")
    for path in (Path("tables") / f"{name}.csv" for name in names):
        assert (again / path).read_bytes() == (out / path).read_bytes()


def test_reliability_of_all_cases_is_that_of_each_put_together(study):
    keys = ["method", "region", "lower", "upper"]
    pooled, of_cases = (
        read_table(study[1] / "tables" / f"{name}.csv")
        for name in ("reliability", "reliability_cases")
    )
    assert (
        set(of_cases.case) == {f"case_{k:03}" for k in range(6)} and (of_cases["count"] > 0).all()
    )
    correct = of_cases.accuracy * of_cases["count"]
    sums = of_cases.assign(correct=correct).groupby(keys)[["count", "correct"]].sum()
    pooled = pooled[pooled["count"] > 0].set_index(keys).sort_index()
    assert (sums["count"] == pooled["count"]).all()
    np.testing.assert_allclose(sums.correct / sums["count"], pooled.accuracy)


def test_reliability_of_one_member_alone_is_of_every_member(study):
    given, out = study
    bins = read_table(out / "tables" / "reliability.csv")
    bins = bins[(bins.region == "whole") & (bins["count"] > 0)].set_index("method")
    labels = [read_volume(given["labels"] / f"case_{k:03}.nii.gz").data for k in range(6)]
    correct = sum(
        (probs_of(folder, f"case_{k:03}").argmax(axis=0) == labels[k]).sum()
        for folder in given["predictions"]
        for k in range(6)
    )
    of_members, of_ensemble = bins.loc["baseline"], bins.loc["ensemble"]
    assert of_members["count"].sum() == 2 * of_ensemble["count"].sum()
    assert (of_members.accuracy * of_members["count"]).sum() == pytest.approx(correct)


def test_what_is_finished_is_not_read_again(study, monkeypatch):
    given, out = study

    def refuse(*_):
        raise AssertionError("read again")

    monkeypatch.setattr(members, "read_prediction", refuse)
    before = (out / "tables" / "scores.csv").read_bytes()
    evaluate(**given, out=out, **QUIET)
    assert (out / "tables" / "scores.csv").read_bytes() == before


def test_other_settings_in_the_same_folder_are_refused(study):
    given, out = study
    with pytest.raises(ValueError, match="n_bins = 10 .now 15."):
        evaluate(**given, out=out, n_bins=15, **QUIET)


def test_a_case_whose_files_change_is_scored_again_alone(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=1)
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    before = read_table(out / "tables" / "scores.csv")
    kept = (out / "scores" / "case_000.json").stat().st_mtime_ns
    probs = draw_probs(draw_labels(np.random.default_rng(5)), np.random.default_rng(6))
    write_nnunet(given["predictions"][0], "case_001", probs)
    evaluate(**given, out=out, **QUIET)
    after = read_table(out / "tables" / "scores.csv")
    assert (out / "scores" / "case_000.json").stat().st_mtime_ns == kept
    of = {"method": "baseline", "region": "whole", "metric": "nll", "segment": None}
    assert value(before, case="case_001", **of) != value(after, case="case_001", **of)


def test_members_averaged_as_logits_are_their_normalised_geometric_mean(tmp_path):
    given = write_study(tmp_path, n_cases=2)
    out = evaluate(**given, out=tmp_path / "out", members_averaged="logits", **QUIET)
    scores = read_table(out / "tables" / "scores.csv")
    labels = read_volume(given["labels"] / "case_001.nii.gz").data
    product = np.prod([probs_of(f, "case_001") for f in given["predictions"]], axis=0) ** 0.5
    expected = nll(labels, product / product.sum(axis=0))
    of = {"case": "case_001", "region": "whole", "metric": "nll", "segment": None}
    assert value(scores, method="ensemble", **of) == pytest.approx(expected, rel=1e-5)


def test_cases_that_cannot_be_judged_are_left_out_each_with_its_reason(tmp_path):
    given = write_study(tmp_path, n_cases=6)
    first, second = given["predictions"]
    (first / "case_000.npz").unlink()
    probs = probs_of(second, "case_001")
    probs[0, 0, 0, 0] = np.nan
    np.savez_compressed(second / "case_001.npz", probabilities=probs.transpose(0, 3, 2, 1))
    (given["labels"] / "case_002.nii.gz").unlink()
    label = read_volume(given["labels"] / "case_003.nii.gz")
    write_volume(label.path, np.where(label.data == 2, 7, label.data), label.affine)
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    left_out = read_table(out / "tables" / "left_out.csv").set_index("case").why
    assert set(left_out.index) == {f"case_00{k}" for k in range(4)}
    assert "no such file" in left_out["case_000"] and "NaN" in left_out["case_001"]
    assert "no label" in left_out["case_002"] and "7" in left_out["case_003"]
    folders = read_table(out / "tables" / "left_out.csv").set_index("case").folder
    expected = [first, second, given["labels"], given["labels"]]
    assert folders.to_dict() == {f"case_{k:03}": str(path) for k, path in enumerate(expected)}
    assert set(read_table(out / "tables" / "scores.csv").case) == {"case_004", "case_005"}


def test_a_name_that_no_file_of_the_run_could_have_leaves_its_case_out(tmp_path):
    given, longest = write_study(tmp_path, n_cases=2, n_members=1, n_new=2), "a" + "\u00fc" * 100
    for name, new_name in (("case_001", longest), ("case_003", f"{longest}b")):
        for path in sorted(tmp_path.rglob(f"{name}*")):
            path.rename(path.with_name(path.name.replace(name, new_name)))
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    left_out = read_table(out / "tables" / "left_out.csv")
    assert left_out.values.tolist() == [
        [longest, str(given["labels"]), "a name of 201 bytes, where 200 are the most", "labelled"],
        [f"{longest}b", str(given["new"][0]), "a name of 202 bytes, where 200 are the most", "new"],
    ]
    assert set(read_table(out / "tables" / "scores.csv").case) == {"case_000"}


def test_the_folder_at_fault_is_that_of_the_new_case(tmp_path):
    given = write_study(tmp_path, n_cases=1, n_members=2, n_new=2)
    (given["new"][1] / "case_001.npz").unlink()
    (given["new"][0] / "case_002.npz").write_bytes(b"cut")
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    left_out = read_table(out / "tables" / "left_out.csv").set_index("case").folder
    assert left_out.to_dict() == {
        "case_001": str(given["new"][1]),
        "case_002": str(given["new"][0]),
    }


def test_one_folder_may_be_given_as_it_is_and_a_list_to_review_goes_with_its_cases(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=1)
    single = {name: folders[0] for name, folders in given.items() if name != "labels"}
    out = evaluate(given["labels"], **single, out=tmp_path / "out", **QUIET)
    assert read_table(out / "tables" / "review.csv").case.tolist() == ["case_002"]
    assert (out / "new" / "case_002.npz").exists()
    review = read_table(out / "tables" / "review.csv")
    assert review["core expected_dice"].isna().all()  # two patients allow no forecast
    assert "pairwise_dice" not in review
    evaluate(given["labels"], str(single["predictions"]), tmp_path / "out", **QUIET)
    assert not (out / "tables" / "review.csv").exists()


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"n_workers": 0}, "n_workers: found 0"),
        ({"n_bins": 2.5}, "n_bins: found 2.5"),
        ({"band_mm": -1}, "band_mm: found -1"),
        ({"members_averaged": "votes"}, "members_averaged: found 'votes'"),
        ({"regions": ["rim"]}, "regions: found 'rim'"),
        ({"write_corrected": True}, "write_corrected: found True, expected one of None, 'both'"),
        ({"signatures": ["training.csv"]}, "expected two tables"),
        ({"new": ["a", "b", "c"]}, "new: found 3 folders, expected 1"),
        ({"patients": "nowhere.csv"}, "patients: found no file"),
        ({"dataset": "nowhere.json"}, "dataset: found"),
        ({"labels": "empty"}, "empty: found no volume"),
        ({"classes": ["a"]}, "classes: found .'a'., expected none beside"),
    ],
)
def test_a_wrong_setting_is_one_sentence_before_anything_is_written(tmp_path, wrong, told):
    given = write_study(tmp_path, n_cases=1, n_members=1)
    (tmp_path / "empty").mkdir()
    settings = given | {"out": tmp_path / "out"} | QUIET | wrong
    if settings["labels"] == "empty":
        settings["labels"] = tmp_path / "empty"
    with pytest.raises(ValueError, match=told):
        evaluate(**settings)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("header", "told"),
    [
        ("case;patient", "found semicolons in case;patient, expected commas between the cells"),
        ("case,person", "expected case, patient, and if wanted domain, split, each once"),
    ],
)
def test_a_table_of_patients_without_its_columns_is_told_what_it_needs(tmp_path, header, told):
    given = write_study(tmp_path, n_cases=1, n_members=1)
    (tmp_path / "p.csv").write_text(f"{header}\ncase_000,a\n")
    with pytest.raises(ValueError, match=f"p.csv: .*{told}"):
        evaluate(**given, out=tmp_path / "out", patients=tmp_path / "p.csv", **QUIET)


def test_a_region_given_twice_counts_once(study, tmp_path):
    given, out = study
    single = given | {"new": [], "out": tmp_path / "out"}
    evaluate(**single, regions=["box", "box"], **QUIET)
    twice, once = (read_table(f / "tables" / "reliability.csv") for f in (tmp_path / "out", out))
    once = once[once.region == "box"].reset_index(drop=True)
    pd.testing.assert_frame_equal(twice, once)


def test_the_seed_is_that_of_resampling_too(tmp_path):
    given = write_study(tmp_path, n_cases=6, n_members=1)
    runs = [evaluate(**given, out=tmp_path / str(s), seed=s, **QUIET) for s in (0, 1)]
    first, second = (read_table(run / "tables" / "summary.csv") for run in runs)
    first, second = (t[(t.method == "baseline") & (t.interval == "mean")] for t in (first, second))
    assert first["mean"].equals(second["mean"]) and not first.lo.equals(second.lo)


def test_nothing_to_judge_is_one_sentence(tmp_path):
    given = write_study(tmp_path, n_cases=1)
    (given["labels"] / "case_000.nii.gz").rename(given["labels"] / "other.nii.gz")
    with pytest.raises(ValueError, match="labelsTr: found no case to judge"):
        evaluate(**given, out=tmp_path / "out", **QUIET)
    assert not (tmp_path / "out").exists()


def test_folds_of_a_cross_validation_are_told_to_be_one_member(tmp_path):
    given = write_study(tmp_path, n_cases=2)
    for folder, case in zip(given["predictions"], ("case_000", "case_001"), strict=True):
        for path in folder.glob(f"{case}.*"):
            path.unlink()
    with pytest.raises(ValueError, match="folds of a cross-validation predict is one member"):
        evaluate(**given, out=tmp_path / "out", **QUIET)


def test_overlapping_regions_are_binary_problems(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=2)
    names = {"background": 0, "whole": [1, 2], "core": [1]}
    content = json.loads((tmp_path / "dataset.json").read_text())
    content |= {"labels": names, "regions_class_order": [2, 1]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    for folder in given["predictions"]:
        for k in range(3):
            case = f"case_{k:03}"
            probs = probs_of(folder, case)
            inside = np.stack([probs[1:].sum(axis=0), probs[1]]).clip(0, 1)
            classes = np.where(inside[1] > 0.5, 1, np.where(inside[0] > 0.5, 2, 0))
            write_volume(folder / f"{case}.nii.gz", classes.astype(np.uint8))
            stored = inside.transpose(0, 3, 2, 1).astype(np.float32)
            np.savez_compressed(folder / f"{case}.npz", probabilities=stored)
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    scores = read_table(out / "tables" / "scores.csv")
    assert set(scores.segment.dropna()) == {"whole", "core"}
    assert scores[(scores.metric == "nll") & (scores.method == "temperature")].value.notna().all()


def test_a_softmax_of_classes_is_judged_by_regions_as_their_sum(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1)
    (folder,) = given["predictions"]
    described = json.loads((tmp_path / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps(described))
    described |= {"labels": {"background": 0, "whole": [1, 2], "core": [1]}}
    described |= {"regions_class_order": [2, 1]}
    (tmp_path / "dataset.json").write_text(json.dumps(described))
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    scores = read_table(out / "tables" / "scores.csv")
    labels = read_volume(given["labels"] / "case_001.nii.gz").data
    inside = probs_of(folder, "case_001")[1:].sum(axis=0).clip(max=1)
    expected = nll((labels > 0).astype(int), np.stack([1 - inside, inside]))
    of = {"case": "case_001", "region": "whole", "metric": "nll", "method": "baseline"}
    assert value(scores, segment="whole", **of) == pytest.approx(expected, rel=1e-5)


def test_hard_labels_give_what_masks_give(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=2)
    for folder in given["predictions"]:
        for path in folder.glob("*.npz"):
            path.unlink()
    with pytest.raises(ValueError, match="write_corrected: found 'both', expected none for hard"):
        evaluate(**given, out=tmp_path / "out", write_corrected="both", **QUIET)
    assert not (tmp_path / "out").exists()
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    scores = read_table(out / "tables" / "scores.csv")
    assert "dice" in set(scores.metric) and "nll" not in set(scores.metric)
    assert "pairwise_dice" in set(scores.metric) and not (out / "correction.json").exists()


def as_one_hot(folders, but=()):
    """Turn probabilities into hard labels, one channel a class."""
    for path in (path for folder in folders for path in folder.glob("*.npz")):
        if path.stem not in but:
            predicted = probs_of(path.parent, path.stem).argmax(axis=0)
            hard = np.moveaxis(np.eye(3, dtype=np.float32)[predicted], 3, 0)
            write_nnunet(path.parent, path.stem, hard)


def test_hard_labels_with_a_channel_a_class_are_judged_as_hard_labels(tmp_path, monkeypatch):
    given, twin = (
        write_study(tmp_path / name, n_cases=3, n_members=2, n_new=2) for name in ("a", "b")
    )
    as_one_hot([*given["predictions"], *given["new"]])
    for path in (tmp_path / "b").rglob("*.npz"):
        path.unlink()
    with pytest.raises(ValueError, match="write_corrected: found 'both', expected none for hard"):
        evaluate(**given, out=tmp_path / "out", write_corrected="both", **QUIET)
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    expected = evaluate(**twin, out=tmp_path / "twin", **QUIET)
    for name in ("scores", "summary", "review", "aurc"):
        path = Path("tables") / f"{name}.csv"
        assert (out / path).read_bytes() == (expected / path).read_bytes()
    assert not (out / "correction.json").exists() and not (out / "tables/reliability.csv").exists()
    notes = read_table(out / "tables" / "notes.csv").set_index("note").n_cases
    assert notes[notes.index.str.startswith("only 0 and 1: hard labels")].tolist() == [5]
    monkeypatch.setattr(members, "read_prediction", None)
    evaluate(**given, out=out, **QUIET)  # finished cases are not read again


def test_one_case_in_which_a_network_is_certain_leaves_it_a_network(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=1)
    as_one_hot(given["predictions"], but=("case_001",))
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    assert (out / "correction.json").exists()
    as_one_hot(given["predictions"])
    evaluate(**given, out=out, **QUIET)
    assert not (out / "correction.json").exists()
    probs = draw_probs(draw_labels(np.random.default_rng(0)), np.random.default_rng(0))
    write_nnunet(given["predictions"][0], "case_002", probs)
    evaluate(**given, out=out, **QUIET)
    scores = read_table(out / "tables" / "scores.csv")
    assert set(scores[scores.metric == "nll"].case) == {"case_000", "case_001", "case_002"}


def test_probabilities_of_0_of_the_true_class_are_counted_whatever_their_type(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1)
    folder = given["predictions"][0]
    labels = read_volume(given["labels"] / "case_001.nii.gz").data
    probs = probs_of(folder, "case_001")
    probs = np.where(probs < 0.05, 0, probs)
    probs /= probs.sum(axis=0)
    write_nnunet(folder, "case_001", probs)
    n_at_0 = np.count_nonzero(np.take_along_axis(probs, labels[np.newaxis].astype(int), 0) == 0)
    notes = read_table(evaluate(**given, out=tmp_path / "out", **QUIET) / "tables" / "notes.csv")
    row = notes[notes.note.str.contains("below 1e-12 of the true class")].iloc[0]
    assert n_at_0 > 0 and row.note.startswith(f"{n_at_0} voxels") and row.cases == "case_001"


def without_finding(folders, case):
    """Let no member find anything in a case, in hard labels."""
    for folder in folders:
        write_volume(folder / f"{case}.nii.gz", np.zeros(SHAPE, np.uint8))


def test_a_case_in_which_no_member_finds_anything_is_the_most_doubtful(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=2, n_new=3)
    for path in tmp_path.rglob("*.npz"):
        path.unlink()
    without_finding(given["predictions"], "case_001")
    without_finding(given["new"], "case_004")
    out = evaluate(**given, out=tmp_path / "out", **QUIET)
    review = read_table(out / "tables" / "review.csv")
    assert review.case[0] == "case_004" and np.isnan(review.score[0])
    assert (review.score[1:] > 0).all()
    doubts = risks_and_doubts(read_table(out / "tables" / "scores.csv"))
    assert doubts.risk["case_001"] == 1 and np.isnan(doubts.disagreement["case_001"])
    curve = read_table(out / "tables" / "risk_coverage.csv").set_index("score").risk
    assert curve["disagreement"].iloc[0] < 1  # the first to be kept is another one


def test_scans_of_one_patient_are_corrected_without_each_other(tmp_path):
    given = write_study(tmp_path, n_cases=4, n_members=1)
    table = pd.DataFrame({"case": [f"case_{k:03}" for k in range(4)], "patient": list("aabb")})
    table.to_csv(tmp_path / "patients.csv", index=False)
    out = evaluate(**given, out=tmp_path / "out", patients=tmp_path / "patients.csv", **QUIET)
    fitted = json.loads((out / "correction.json").read_text())["without the patient of"]
    assert fitted["case_000"] == fitted["case_001"] != fitted["case_002"] == fitted["case_003"]
    summary = read_table(out / "tables" / "summary.csv")
    assert summary.n_cases.max() == 2


def test_that_a_single_patient_gets_no_correction_is_said(tmp_path):
    given, lines = write_study(tmp_path, n_cases=1, n_members=1, n_new=1), []
    options = QUIET | {"report": lines.append, "write_corrected": "both"}
    out = evaluate(**given, out=tmp_path / "out", **options)
    written = {path.name for path in (out / "probabilities").rglob("*.nii.gz")}
    assert written == {"case_001.nii.gz"}  # the new one
    assert any(line.startswith("corrections are fitted: labelled cases get none") for line in lines)
    assert not list(out.rglob("*.npy"))


def test_corrected_probabilities_are_written_on_the_grid_of_the_case(tmp_path):
    given = write_study(tmp_path, n_cases=2, n_members=1, n_new=1)
    out = evaluate(**given, out=tmp_path / "out", write_corrected="both", **QUIET)
    fitted = json.loads((out / "correction.json").read_text())
    for folder, case, found in (
        (given["predictions"][0], "case_000", fitted["without the patient of"]["case_000"]),
        (given["new"][0], "case_002", fitted["of all"]),
    ):
        by_class = [np.reshape(found[name], (3, 1, 1, 1)) for name in ("scale", "shift", "floor")]
        scale, shift, floor = by_class
        probs = np.maximum(probs_of(folder, case), floor, dtype=np.float64)
        expected = {"temperature": probs ** (1 / found["temperature"])}
        expected["vector_scaling"] = probs**scale * np.exp(shift)
        for method, powers in expected.items():
            written = read_volume(out / "probabilities" / method / f"{case}.nii.gz")
            assert np.allclose(written.data, powers / powers.sum(axis=0), atol=1e-5), method
            assert written.affine == pytest.approx(AFFINE)
    again = evaluate(
        given["labels"], out / "probabilities" / "temperature", tmp_path / "again", **QUIET
    )
    assert "case_000" in set(read_table(again / "tables" / "scores.csv").case)


def test_corrected_probabilities_of_one_region_are_predictions_as_well(tmp_path):
    given = write_study(tmp_path, n_cases=3, n_members=1)
    content = json.loads((tmp_path / "dataset.json").read_text())
    content |= {"labels": {"background": 0, "whole": [1, 2]}, "regions_class_order": [1]}
    (tmp_path / "dataset.json").write_text(json.dumps(content))
    (folder,) = given["predictions"]
    for path in folder.glob("*.npz"):
        inside = probs_of(folder, path.stem)[1:].sum(axis=0, keepdims=True).clip(0, 1)
        np.save(tmp_path / f"{path.stem}.npy", inside)
    shutil.rmtree(folder)
    folder.mkdir()
    for path in tmp_path.glob("*.npy"):
        path.rename(folder / path.name)
    out = evaluate(**given, out=tmp_path / "out", write_corrected="temperature", **QUIET)
    corrected = out / "probabilities" / "temperature"
    again = evaluate(given["labels"], corrected, tmp_path / "again", **QUIET)
    of = {"case": "case_001", "segment": "whole", "region": "whole", "metric": "nll"}
    before, after = (read_table(run / "tables" / "scores.csv") for run in (out, again))
    expected = value(before, method="temperature", **of)
    assert value(after, method="baseline", **of) == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("method", ["temperature", "vector_scaling"])
def test_one_method_is_written_where_one_is_asked_for(tmp_path, method):
    given = write_study(tmp_path, n_cases=2, n_members=1)
    out = evaluate(**given, out=tmp_path / "out", write_corrected=method, **QUIET)
    assert [path.name for path in (out / "probabilities").iterdir()] == [method]
    assert len(list((out / "probabilities").rglob("*.nii.gz"))) == 2


@pytest.mark.parametrize("kind", ["scores", "corrected", "new"])
def test_what_is_damaged_of_a_case_is_made_again(kind, study, tmp_path):
    given, out = study
    shutil.copytree(out, tmp_path / "out")
    files = sorted((tmp_path / "out" / kind).iterdir())
    for path in files:
        whole = path.read_bytes()
        if path.suffix == ".json":
            path.write_text(path.read_text().replace("0", "1", 1))
        elif path.suffix == ".npz":
            path.write_bytes(whole[:-40])
        else:
            path.unlink()
    evaluate(**given, out=tmp_path / "out", **QUIET)
    for path in files:
        assert read_again(path) == read_again(out / kind / path.name), path
    assert len(read_table(tmp_path / "out" / "tables" / "left_out.csv")) == 0


def read_again(path):
    """What a file holds, in a form that can be compared."""
    if path.suffix == ".npz":
        return {name: array.tolist() for name, array in read_arrays(path).items()}
    return path.read_text()
