"""Correction from probabilities alone: what is drawn, fitted, applied and written."""

import json

import nibabel as nib
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import expit, softmax

from segcal_lite.calibration import nll
from segcal_lite.experiments.own_model.correction import (
    CERTAIN,
    CODE,
    LARGEST_FLOOR,
    METHODS,
    Correction,
    VoxelSample,
    corrected,
    cross_fit,
    draw_voxels,
    voxels_of_case,
    write_corrected,
)
from segcal_lite.runs.folders import write_json
from segcal_lite.scaling import SMALLEST_PROB, fit_temperature, log_probabilities

SHAPE = (30, 30, 20)


def overconfident(seed, temperature=3.0, shape=SHAPE):
    """Labels (X, Y, Z) drawn from a softmax, and float32 probabilities that are too sure."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(3, *shape))
    logits[0] += 4
    cumulated = np.cumsum(softmax(logits, axis=0), axis=0)
    labels = (rng.random(shape) > cumulated[:-1]).sum(axis=0)
    return labels, softmax(temperature * logits, axis=0).astype(np.float32)


def regions_of(seed):
    """Two overlapping regions (2, X, Y, Z) with probabilities (2, 2, X, Y, Z), too sure."""
    rng = np.random.default_rng(seed)
    logits = 2 * rng.normal(size=(2, *SHAPE)) - 2
    inside = expit(2 * logits).astype(np.float32)
    return (rng.random(logits.shape) < expit(logits)).astype(int), np.stack([1 - inside, inside])


def weighted_nll(sample):
    log_likelihood = np.take_along_axis(sample.log_probs, sample.labels[np.newaxis], axis=0)[0]
    return -(sample.weights * log_likelihood).sum()


# drawing


def test_all_voxels_are_taken_where_there_is_room():
    labels, probs = overconfident(0)
    sample = draw_voxels(labels, probs, n_voxels=labels.size)
    assert (sample.weights == 1).all() and sample.labels.size == labels.size
    assert weighted_nll(sample) / labels.size == pytest.approx(nll(labels, probs), rel=1e-5)


def test_the_certain_and_right_are_thinned_out_and_the_others_kept():
    labels, probs = overconfident(0)
    true_probs = np.take_along_axis(probs, labels[np.newaxis], axis=0)[0]
    n_others = np.count_nonzero(true_probs <= CERTAIN)
    sample = draw_voxels(labels, probs, n_voxels=2 * n_others)
    assert sample.labels.size == 2 * n_others < labels.size
    certain = np.exp(sample.log_probs[sample.labels, np.arange(sample.labels.size)]) > CERTAIN
    assert (sample.weights[~certain] == 1).all() and np.count_nonzero(certain) == n_others
    assert np.unique(sample.weights[certain]).size == 1
    assert sample.weights.sum() == pytest.approx(labels.size)


def test_neither_stratum_crowds_out_the_other():
    labels, probs = overconfident(0)
    sample = draw_voxels(labels, probs, n_voxels=100)
    assert sample.labels.size == 100 and sample.weights.sum() == pytest.approx(labels.size)
    assert sorted(np.unique(sample.weights, return_counts=True)[1]) == [50, 50]
    few_certain = overconfident(0, temperature=0.3)
    assert draw_voxels(*few_certain, n_voxels=1000).labels.size == 1000


@given(st.integers(2, 70), st.integers(0, 40), st.integers(0, 40), st.integers(0, 3))
def test_weights_add_up_to_the_annotated_voxels(n_voxels, n_certain, n_others, n_ignored):
    inside = np.repeat([0.9999, 0.3, 0.5], [n_certain, n_others, n_ignored]).reshape(-1, 1, 1)
    targets = np.repeat([1, 1, -1], [n_certain, n_others, n_ignored]).reshape(-1, 1, 1)
    sample = draw_voxels(targets, np.stack([1 - inside, inside]), n_voxels)
    assert sample.labels.size == min(n_voxels, n_certain + n_others)
    assert sample.weights.sum() == pytest.approx(n_certain + n_others)
    assert (sample.weights >= 1).all()


def test_weighted_sums_are_unbiased():
    labels, probs = overconfident(1)
    exact = weighted_nll(draw_voxels(labels, probs, n_voxels=labels.size))
    drawn = [weighted_nll(draw_voxels(labels, probs, 400, seed)) for seed in range(200)]
    error = np.std(drawn) / np.sqrt(len(drawn))
    assert abs(np.mean(drawn) - exact) < 4 * error < 0.05 * exact


def test_equal_seeds_draw_equal_voxels():
    labels, probs = overconfident(1)
    one, same, other = (draw_voxels(labels, probs, 500, seed) for seed in (1, 1, 2))
    assert all(map(np.array_equal, one, same))
    assert not np.array_equal(one.log_probs, other.log_probs)


def test_voxels_that_nobody_annotated_are_not_drawn():
    labels, probs = overconfident(2)
    labels[:, 0] = -1
    sample = draw_voxels(labels, probs, n_voxels=labels.size)
    assert sample.labels.min() == 0 and sample.weights.sum() == np.count_nonzero(labels >= 0)
    nothing = draw_voxels(np.full(SHAPE, -1), probs)
    assert nothing.labels.size == nothing.weights.size == 0 and nothing.log_probs.shape == (3, 0)


def test_regions_are_drawn_together_as_binary_problems():
    targets, probs = regions_of(0)
    sample = draw_voxels(targets, probs, n_voxels=targets.size)
    assert sample.log_probs.shape == (2, targets.size) and set(sample.labels) == {0, 1}
    assert fit_temperature(*sample[:3]) == pytest.approx(2, rel=0.05)


def test_the_smallest_positive_probability_is_found_in_all_voxels():
    labels, probs = overconfident(0)
    probs[:, 0, 0] = np.array([1 - 3e-30, 0, 3e-30])[:, np.newaxis]
    smallest = draw_voxels(labels, probs, n_voxels=2).smallest
    assert smallest[2] == np.float32(3e-30) and smallest[1] == probs[1][probs[1] > 0].min()
    probs[:, 0, 0] = np.array([1, 0, 1e-44])[:, np.newaxis]
    assert draw_voxels(labels, probs).smallest[2] == SMALLEST_PROB
    hard = np.stack([labels == k for k in range(3)]).astype(np.float32)
    assert draw_voxels(labels, hard).smallest == pytest.approx([LARGEST_FLOOR] * 3)


def test_more_cases_give_fewer_voxels_each():
    assert voxels_of_case(1, 4) == 30_000 and voxels_of_case(10**6, 4) == 200
    assert 1000 * 4 * voxels_of_case(1000, 4) <= 4_000_000


# cross-fitting


def samples_of(folder, temperatures, n_voxels=4000):
    """Files of samples, one a case, of models that are too sure by these factors."""
    paths = {}
    for number, temperature in enumerate(temperatures):
        sample = draw_voxels(*overconfident(number, temperature), n_voxels)
        paths[f"case{number}"] = folder / f"case{number}.npz"
        np.savez(paths[f"case{number}"], **sample._asdict())
    return paths


def own_patients(paths):
    return {case: f"patient of {case}" for case in paths}


def test_no_case_is_corrected_by_itself_or_by_another_scan_of_its_patient(tmp_path):
    paths = samples_of(tmp_path, [9, 9, 2, 2, 2, 2, 2])
    patients = own_patients(paths) | {"case1": "patient of case0"}
    of_cases, of_all = cross_fit(paths, patients, n_folds=6)
    assert set(of_cases) == set(paths) and of_cases["case0"] == of_cases["case1"]
    assert of_cases["case0"].temperature == pytest.approx(2, rel=0.05)
    assert min(of_cases[f"case{n}"].temperature for n in range(2, 7)) > 2.5
    assert 2 < of_all.temperature < of_cases["case2"].temperature + 1


def test_a_fold_holds_whole_patients_and_depends_on_names_and_seed_alone(tmp_path):
    paths = samples_of(tmp_path, [1, 2, 3, 4, 5, 6, 7], n_voxels=300)
    patients = own_patients(paths)
    found, _ = cross_fit(paths, patients, n_folds=3)
    assert len(set(found.values())) == 3
    shuffled, _ = cross_fit(dict(reversed(paths.items())), patients, n_folds=3)
    assert shuffled.keys() == found.keys()
    for case in found:
        assert shuffled[case].temperature == pytest.approx(found[case].temperature, rel=1e-6)
    other, _ = cross_fit(paths, patients, n_folds=3, seed=5)
    groups = [{v: {c for c in f if f[c] == v} for v in f.values()} for f in (found, other)]
    assert sorted(map(sorted, groups[0].values())) != sorted(map(sorted, groups[1].values()))


@pytest.mark.parametrize("n", [2, 3, 4])
def test_few_patients_are_left_out_one_by_one(tmp_path, n):
    of_cases, _ = cross_fit(
        paths := samples_of(tmp_path, range(1, n + 1), 300), own_patients(paths)
    )
    assert len(set(of_cases.values())) == n


def test_one_patient_is_not_corrected(tmp_path):
    paths = samples_of(tmp_path, [2, 3], 300)
    of_cases, of_all = cross_fit(paths, dict.fromkeys(paths, "one"))
    assert of_cases == {} and 2 < of_all.temperature < 3
    with pytest.raises(ValueError, match="samples: found no case"):
        cross_fit({}, {})


def test_what_is_thinned_out_gives_the_same_fit(tmp_path):
    labels, probs = overconfident(3, shape=(60, 60, 40))
    log_probs, _ = log_probabilities(probs)
    drawn = fit_temperature(*draw_voxels(labels, probs, 10_000)[:3])
    assert drawn == pytest.approx(fit_temperature(labels, log_probs), rel=0.03)


def test_a_zero_counts_as_the_smallest_positive_probability_of_the_fit(tmp_path):
    found = {}
    for name, scale in (("eight bits", 255), ("three digits", 1000)):
        labels, probs = overconfident(4)
        found[name] = draw_voxels(labels, np.round(probs * scale) / scale, labels.size)
        np.savez(tmp_path / f"{name}.npz", **found[name]._asdict())
    paths = {name: tmp_path / f"{name}.npz" for name in found}
    of_cases, of_all = cross_fit(paths, own_patients(paths))
    assert of_cases["three digits"].floor == pytest.approx([1 / 255] * 3)
    assert of_cases["eight bits"].floor == of_all.floor == pytest.approx([1e-3] * 3)
    for correction in (of_all, *of_cases.values()):
        assert 1.5 < correction.temperature < 3  # of 3; with zeros as 1e-38 it is far above
    assert fit_temperature(*found["eight bits"][:3]) > 6
    zeros = [(sample.log_probs < -80).any(axis=0).mean() for sample in found.values()]
    assert of_all.share_floored == pytest.approx(np.mean(zeros)) and min(zeros) > 0.1


def test_where_nothing_is_zero_nothing_is_floored(tmp_path):
    _, of_all = cross_fit(paths := samples_of(tmp_path, [2, 2]), own_patients(paths))
    assert of_all.share_floored == 0


# applying


@pytest.fixture
def fitted():
    return Correction(2.5, (0.5, 0.4, 0.6), (0.3, -0.1, -0.2), (1e-30,) * 3, 0.0)


def test_a_temperature_is_that_of_the_logits(fitted):
    logits = 5 * np.random.default_rng(0).normal(size=(3, *SHAPE))
    probs = softmax(logits, axis=0).astype(np.float32)
    found = corrected(probs, fitted, "temperature")
    assert found.dtype == np.float32 and found.shape == probs.shape
    assert np.allclose(found, softmax(logits / 2.5, axis=0), atol=1e-5)


def test_a_correction_lowers_the_nll_of_another_case(tmp_path):
    _, of_all = cross_fit(paths := samples_of(tmp_path, [3, 3, 3]), own_patients(paths))
    labels, probs = overconfident(9)
    scores = [nll(labels, corrected(probs, of_all, method)) for method in METHODS]
    assert max(scores) < 0.8 * nll(labels, probs)


def test_regions_stay_complements(fitted):
    _, probs = regions_of(1)
    two = Correction(2.0, (0.5, 0.6), (0.1, -0.1), (6e-8, 1e-30), 0.0)
    for method in METHODS:
        found = corrected(probs, two, method)
        assert found.shape == probs.shape and np.allclose(found.sum(axis=0), 1)
    expected = expit(np.log(probs[1] / probs[0]) / 2)
    assert np.allclose(corrected(probs, two, "temperature")[1], expected, atol=1e-6)


def test_a_correction_of_other_classes_and_an_unknown_method_are_refused(fitted):
    with pytest.raises(ValueError, match="probs: found 2 classes, expected 3, as fitted"):
        corrected(np.full((2, 4), 0.5), fitted, "temperature")
    with pytest.raises(ValueError, match="method: found 'ensemble'"):
        corrected(np.full((3, 4), 1 / 3), fitted, "ensemble")


def test_json_gives_back_what_was_fitted(fitted):
    assert Correction.from_json(json.loads(json.dumps(fitted.to_json()))) == fitted


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("is_regions", [False, True])
def test_the_six_lines_do_what_the_package_does(tmp_path, monkeypatch, method, is_regions):
    _, probs = regions_of(2) if is_regions else overconfident(5)
    n_classes = len(probs)
    of_all = Correction(
        *(1.7, (0.5, 0.6, 0.7)[:n_classes], (0.2, -0.1, -0.1)[:n_classes]),
        *((1e-7, 1e-9, 1e-30)[:n_classes], 0.0),
    )
    write_json(tmp_path / "correction.json", {"of all": of_all.to_json(), "folds": {}})
    monkeypatch.chdir(tmp_path)
    code = CODE
    assert len(code.strip().splitlines()) == 6
    if method == "vector_scaling":  # as the comment in the text says
        before, _, told = code.partition("logits = ")
        _, _, instead = told.partition("# or ")
        code = before + "logits = " + instead
    names = {"probs": probs}
    exec(code, names)
    assert np.allclose(names["corrected"], corrected(probs, of_all, method), atol=1e-6)


def test_what_is_written_lies_on_the_given_grid(tmp_path, fitted):
    affine = np.array([[-1.0, 0, 0, 5], [0, 0, 2, 6], [0, 3, 0, 7], [0, 0, 0, 1]])
    _, probs = overconfident(6, shape=(5, 4, 3))
    write_corrected(tmp_path / "corrected" / "a.nii.gz", probs, affine)
    image = nib.load(tmp_path / "corrected" / "a.nii.gz")
    assert image.shape == (5, 4, 3, 3) and image.get_data_dtype() == np.float32
    assert np.allclose(image.affine, affine)
    assert np.array_equal(np.moveaxis(np.asarray(image.dataobj), 3, 0), probs)
    assert [path.name for path in (tmp_path / "corrected").iterdir()] == ["a.nii.gz"]
    _, regions = regions_of(3)
    write_corrected(tmp_path / "regions.nii", regions, affine)
    inside = np.asarray(nib.load(tmp_path / "regions.nii").dataobj)
    assert np.array_equal(np.moveaxis(inside, 3, 0), regions[1])


def test_a_sample_holds_no_pickles(tmp_path):
    path = tmp_path / "a.npz"
    np.savez(path, **dict.fromkeys(VoxelSample._fields, np.array([object()])))
    with pytest.raises(ValueError, match="allow_pickle"):
        cross_fit({"a": path}, {"a": "a"})
