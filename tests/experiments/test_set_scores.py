"""Scores of paper B's Table II on phantoms: what is known of them without any training."""

import numpy as np
import pytest
from conftest import TINY_VOLUMES, write_tiny_sets

from data_scripts.phantoms.folders import write_patients
from segcal_lite.experiments import open_joint_experiment
from segcal_lite.experiments.set_scores import joint_scores, oracle_scores

SILENT = {"report": lambda line: None, "device": "cpu"}


def test_padding_changes_no_score_of_the_posterior(tmp_path):
    sets = write_tiny_sets(tmp_path / "phantoms", ("atrium",))
    settings = SILENT | TINY_VOLUMES | {"cut_foreground": True}
    alone, padded = (
        open_joint_experiment(tmp_path / str(size), sets, crop_size=size, **settings)
        for size in (None, (24, 24, 24))
    )
    assert padded.cases("atrium", "test")[0].posterior.shape == (2, 24, 24, 24)
    found, expected = (oracle_scores(run, ["atrium"]) for run in (padded, alone))
    assert found.drop(columns="value").equals(expected.drop(columns="value"))
    np.testing.assert_allclose(found.value, expected.value, rtol=1e-9)


def test_the_posterior_of_merged_segments_is_the_sum_of_theirs(tmp_path):
    write_patients(
        tmp_path / "sets" / "heart", "heart", crop_size=(64, 64), n_patients=(4, 2, 2, 2)
    )
    run = open_joint_experiment(tmp_path / "run", tmp_path / "sets", **SILENT, **TINY_VOLUMES)
    case = run.cases("heart", "test")[0]
    probs, labels = np.asarray(case.posterior), np.asarray(case.labels)
    assert probs.shape == (2, *labels.shape) and set(np.unique(labels)) == {0, 1}
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-6)
    assert probs[1][labels == 1].mean() > 0.8 > 0.2 > probs[1][labels == 0].mean()
    scores = oracle_scores(run, ["heart"])
    assert scores[scores.metric == "dice"].value.min() > 0.7


def test_one_set_alone_is_not_joint(volumes):
    with pytest.raises(ValueError, match=r"^names: found \['atrium'\], expected at least two sets"):
        joint_scores(volumes, ["atrium"])
