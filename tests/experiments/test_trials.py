from types import SimpleNamespace

import numpy as np
import pytest
from conftest import write_dataset, write_discs

from segcal_lite.detection import DETECTORS, auc, detection_table, fit_detectors, of_sets
from segcal_lite.detectors import ScalarDetector
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.experiments.trials import (
    Trial,
    cases_by_role,
    describe_trials,
    detection_scores,
    given_trials,
    hold_out_last,
)
from segcal_lite.experiments.volume_scores import ScoreRequest
from segcal_lite.training.plans import chain, dedicated, joint

PLAN = dedicated("atrium")


def silent(line):
    pass


@pytest.fixture(scope="module")
def described(volumes):
    trial = {"alone": Trial(PLAN, ("liver_ct", "cp_younger"))}
    return describe_trials(volumes, trial, report=silent)["alone"]


def test_every_detector_gets_a_row_a_case(volumes, described):
    training, inside, outside = described
    n_in, n_out = len(volumes.cases("atrium", "test")), 2 * len(volumes.cases("liver_ct"))
    assert outside["set"].tolist() == ["liver_ct"] * (n_out // 2) + ["cp_younger"] * (n_out // 2)
    for part, n in ((inside, n_in), (outside, n_out)):
        assert set(part) == {"set", "case", "patient", "dice", "spectra", *DETECTORS}
        assert {len(values) for values in part.values()} == {n}
    for part in described:
        for name in ("spectral", "spectral_sqrt_voxels", "spectral_shuffled"):
            np.testing.assert_allclose(np.linalg.norm(part[name], axis=1), 1)
    assert set(training["voxel_count"]) == {18**3}
    s = training["spectra"]
    raised = np.log(np.maximum(s, 0.01 * s[:, :1]))
    raised /= np.linalg.norm(raised, axis=1, keepdims=True)
    np.testing.assert_allclose(training["spectral_floor"], raised)
    assert not np.allclose(training["spectral"], training["spectral_shuffled"])


def test_scores_by_case_give_the_table_of_detectors_again(described):
    fitted = {"alone": fit_detectors(described[0])}
    scores = detection_scores(fitted, {"alone": described})
    assert set(scores.detector) == set(fitted["alone"]) and set(scores.trial) == {"alone"}
    table = detection_table(fitted["alone"], *described[1:]).set_index("detector")
    for name, rows in scores.groupby("detector"):
        flagged = rows.score > rows.threshold
        assert (flagged & ~rows.known).sum() == table.tp[name]
        assert (flagged & rows.known).sum() == table.fp[name]
        assert auc(rows[rows.known].score, rows[~rows.known].score) == table.auc[name]
    assert scores[scores.detector == "spectral"]["case"].tolist() == [
        *described[1]["case"],
        *described[2]["case"],
    ]


def test_a_trial_holds_whole_sets_out():
    plan = joint("a", "b")
    assert Trial(plan, ("c",)).parts() == (
        (("a", "b"), "train"),
        (("a", "b"), "test"),
        (("c",), None),
    )
    assert Trial(chain("a", "b"), ("c",)).parts()[0] == (("a", "b"), "train")  # all that it saw
    with pytest.raises(ValueError, match=r"unseen: found \['b'\] in training too, .* a\+b was not"):
        Trial(plan, ("b", "c")).parts()
    with pytest.raises(ValueError, match="unseen: found none"):
        Trial(plan, ()).parts()


def test_trials_side_by_side_are_described_as_each_alone(volumes, described):
    lines = []
    trials = {
        "whole": Trial(PLAN, ("liver_ct", "cp_younger")),
        "plain": Trial(PLAN, ("liver_ct",), with_rivals=False),
    }
    found = describe_trials(volumes, trials, report=lines.append)
    assert list(found) == list(trials)
    for part, expected in zip(found["whole"], described, strict=True):
        assert {k: v.tolist() for k, v in part.items()} == {
            k: v.tolist() for k, v in expected.items()
        }
    missing = set(DETECTORS) - set(found["plain"][0])
    assert missing == {"uncertainty", "spectral_shuffled"}
    assert missing.isdisjoint(fit_detectors(found["plain"][0]))
    assert not any(line.startswith("scoring") for line in lines)  # all of it was at hand


def test_other_layers_come_with_the_last(volumes):
    trial = {"one": Trial(PLAN, ("liver_ct",), with_rivals=False)}
    (training, *_), layers = describe_trials(volumes, trial, ("encoder.1",), silent)["one"], 2
    scoring = volumes.scoring(("encoder.1", "last_features"))
    (scores,) = volumes.score([ScoreRequest(PLAN, False, "atrium", "train", scoring)], silent)
    assert all(len(score["spectra"]) == layers for score in scores)
    kept = [score["spectra"]["last_features"] for score in scores]
    np.testing.assert_array_equal(training["spectra"], kept)
    kept = [score["spectra"]["encoder.1"] for score in scores]
    np.testing.assert_array_equal(training["encoder.1"], kept)
    assert "last_features" not in training  # they are the `spectra`


def test_trials_of_ones_own():
    sides = {"known": ["a", "b"], "unseen": ["c"]}
    assert given_trials({"one": sides}) == {"one": Trial(joint("a", "b"), ("c",))}
    with pytest.raises(ValueError, match="^trials, one: found .*'c'}, expected two lists"):
        given_trials({"one": sides | {"unseen": "c"}})
    with pytest.raises(ValueError, match="^trials, one: found .*, expected two lists"):
        given_trials({"one": {"known": ["a"]}})
    assert hold_out_last(["a", "b", "c"]) == {"c unseen": Trial(joint("a", "b"), ("c",))}
    with pytest.raises(ValueError, match="^sets: found one set, expected two or more"):
        hold_out_last(["a"])


def split_of(**domains):
    """An experiment that holds nothing but cases of these domains by split."""
    cases = {key: [SimpleNamespace(domain=d) for d in given] for key, given in domains.items()}
    return SimpleNamespace(split=lambda name: cases[name])


def test_what_is_known_and_what_is_ood_follows_from_the_domains():
    lines = []
    run = split_of(train="aab", validation="a", test="abcd")
    roles, same_labels = cases_by_role(run, report=lines.append)
    found = {name: "".join(case.domain for case in cases) for name, cases in roles.items()}
    assert found == {"training": "aab", "in-distribution": "ab", "OOD": "cd"}
    assert same_labels and not lines
    roles, _ = cases_by_role(split_of(train="a", validation="aa", test="b"), report=lines.append)
    assert len(roles["in-distribution"]) == 2
    assert "validation cases take their place" in lines[0]
    roles, _ = cases_by_role(split_of(train="a", validation="", test="a"), report=lines.append)
    assert list(roles) == ["training", "in-distribution"]
    assert lines[1].startswith("one domain and no ood_data")


def test_another_dataset_is_ood_on_the_grid_of_the_run(discs, tmp_path):
    tiny = {"crop_size": (32, 32), "device": "cpu", "report": silent}
    run = open_experiment(tmp_path / "run", discs, **tiny)
    other = write_discs(tmp_path / "other", seed=1)
    roles, same_labels = cases_by_role(run, other, report=silent)
    assert [case.name for case in roles["OOD"]] == [f"disc{number}" for number in range(6)]
    assert {case.image.shape for case in roles["OOD"]} == {run.cases[0].image.shape}
    assert roles["OOD"][0].folder.is_relative_to(run.out)
    assert roles["OOD"][0].folder.parent != run.prepared_folder
    assert same_labels
    path = other / "dataset.json"
    path.write_text(path.read_text().replace("core", "kernel"))
    assert not cases_by_role(run, other, report=silent)[1]
    write_dataset(tmp_path / "two_channels")
    with pytest.raises(ValueError, match="^ood_data .*: found 2 channels, expected 1 as the run"):
        cases_by_role(run, tmp_path / "two_channels", report=silent)


def test_the_table_is_that_of_the_plain_functions(described):
    training, inside, outside = described
    fitted = fit_detectors(training)
    table = detection_table(fitted, inside, outside).set_index("detector")
    spectral = fitted["spectral"]
    scores = [spectral.score(part["spectral"]) for part in (inside, outside)]
    row = table.loc["spectral"]
    assert row.auc == auc(*scores)
    assert np.isnan([row.lo, row.hi]).all()  # two in-distribution cases
    assert row.tp == (scores[1] > spectral.threshold).sum()
    assert row.tn + row.fp == row.n_in and row.tp + row.fn == row.n_out
    assert table.loc["voxel_count"].auc == 0.5  # one grid for all
    assert table.loc["intensities"].auc > 0.9  # CT and MR are told apart without a network


def test_fewer_than_two_training_cases_are_refused(described):
    training = {key: values[:1] for key, values in described[0].items()}
    with pytest.raises(ValueError, match=r"reference: found shape .* with R >= 2 signatures"):
        fit_detectors(training)


def test_a_model_that_segments_nothing_in_training_has_no_detector_of_uncertainty(described):
    training, inside, outside = described
    empty = dict(training, uncertainty=np.full(len(training["case"]), np.nan))
    fitted = fit_detectors(empty)
    assert "uncertainty" not in fitted and "spectral" in fitted
    assert "uncertainty" not in set(detection_table(fitted, inside, outside).detector)


def test_an_image_without_predicted_foreground_is_flagged(described):
    training, inside, outside = described
    full = dict(training, uncertainty=np.linspace(0.1, 0.2, len(training["case"])))
    failed = dict(outside, uncertainty=np.full(len(outside["case"]), np.nan))
    inside = dict(inside, uncertainty=np.full(len(inside["case"]), 0.15))
    fitted = {"uncertainty": fit_detectors(full)["uncertainty"]}
    assert isinstance(fitted["uncertainty"], ScalarDetector)
    row = detection_table(fitted, inside, failed).iloc[0]
    assert (row.auc, row.sensitivity, row.specificity) == (1, 1, 1)
    assert (row.n_empty_in, row.n_empty_out) == (0, row.n_out)  # and it is told why


def test_sets_of_a_description(described):
    outside = described[2]
    part = of_sets(outside, ["cp_younger"])
    assert set(part["set"]) == {"cp_younger"}
    assert len(part["spectral"]) == len(part["case"]) == len(outside["case"]) // 2


def test_a_trial_that_is_no_table_is_named():
    with pytest.raises(ValueError, match="^trials, new: found .'atrium'., expected two lists"):
        given_trials({"new": ["atrium"]})
