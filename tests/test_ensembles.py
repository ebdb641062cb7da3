from itertools import combinations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st

from segcal_lite import ensembles
from segcal_lite.calibration import brier_score, nll
from segcal_lite.ensembles import SweepSums, mean_probability, selection_matrix
from segcal_lite.segmentation_metrics import dice_coefficient


def random_probs(n_members, n_classes, n_voxels, seed=0):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(n_classes), size=(n_members, n_voxels))
    return np.moveaxis(probs, -1, 1).astype(np.float32)


def test_the_mean_streams_and_equals_that_of_the_whole():
    probs = random_probs(5, 3, 40)
    assert np.allclose(mean_probability(probs), probs.astype(np.float64).mean(axis=0))
    assert np.array_equal(mean_probability(iter(probs)), mean_probability(probs))
    assert mean_probability(probs).dtype == np.float64


def test_the_mean_of_no_member_and_of_unlike_members_is_refused():
    with pytest.raises(ValueError, match="no member"):
        mean_probability([])
    with pytest.raises(ValueError, match="member_probs"):
        mean_probability([np.zeros((2, 3)), np.zeros((2, 4))])


@examples(max_examples=25, deadline=None)
@given(st.integers(1, 6), st.integers(0, 1000))
def test_an_ensembles_nll_and_brier_are_at_most_the_members_mean(n_members, seed):
    probs = random_probs(n_members, 3, 50, seed)
    labels = np.random.default_rng(seed).integers(0, 3, 50)
    members_mean = np.mean([nll(labels, member) for member in probs])
    assert nll(labels, mean_probability(probs)) <= members_mean + 1e-9


def test_a_selection_holds_m_distinct_members_each_drawn_as_often():
    selection = selection_matrix(6, 4, 3000)
    assert (np.count_nonzero(selection, axis=1) == 4).all()
    assert np.allclose(selection[selection > 0], 0.25)
    assert np.allclose((selection > 0).mean(axis=0), 4 / 6, atol=0.03)
    subsets = {tuple(np.flatnonzero(row)) for row in selection}
    assert subsets == set(combinations(range(6), 4))


def test_a_selection_repeats_by_seed():
    assert np.array_equal(selection_matrix(8, 2, 9, seed=1), selection_matrix(8, 2, 9, seed=1))
    assert not np.array_equal(selection_matrix(8, 2, 9, seed=1), selection_matrix(8, 2, 9, seed=2))


def test_an_ensemble_larger_than_the_pool_is_refused():
    with pytest.raises(ValueError, match="n_members: found 5, expected at most the pool's 4"):
        selection_matrix(4, 5, 1)
    with pytest.raises(ValueError, match="seed: found 0.5"):
        selection_matrix(4, 2, 1, seed=0.5)


@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ((4.0, 2, 2), "n_pool"),
        ((4, 0, 2), "n_members"),
        ((4, 2, -1), "n_resamples"),
        ((4, 2, 2.5), "n_resamples"),
    ],
)
def test_a_selection_of_what_is_no_number_is_refused(arguments, name):
    with pytest.raises(ValueError, match=f"^{name}: found .*, expected an integer of at least"):
        selection_matrix(*arguments)


def scored_alone(labels, mean):
    """NLL, mean Dice and Brier score of one ensemble's probabilities."""
    predicted, classes = mean.argmax(axis=0), range(1, len(mean))
    dice = [dice_coefficient(labels == k, predicted == k) for k in classes]
    return nll(labels, mean), np.mean(dice), brier_score(labels, mean)


def sharper(probs, power):
    """Probabilities to a power and normalised: members that agree, as on most of a volume."""
    probs = probs.astype(np.float64) ** power
    return (probs / probs.sum(axis=1, keepdims=True)).astype(np.float32)


@pytest.fixture(params=[np.asarray, torch.as_tensor], ids=["numpy", "torch"])
def kept(request):
    """Keeps an array in the library that computes the sweep."""
    return request.param


@pytest.mark.parametrize("power", (1, 30))  # as drawn, and nearly all of them 0 or 1
@pytest.mark.parametrize("n_together", (7, 1024))
def test_the_sweep_equals_each_ensemble_scored_alone_in_any_blocks(
    monkeypatch, n_together, power, kept
):
    for name in ("N_TOGETHER", "N_TOGETHER_ON_GPU"):
        monkeypatch.setattr(ensembles, name, n_together)
    shared = random_probs(1, 3, 200, seed=5)
    shared[..., :100] = sharper(shared, 30)[..., :100]
    probs = sharper(0.7 * shared + 0.3 * random_probs(6, 3, 200), power)
    votes = probs.argmax(axis=1)
    assert 0.2 < (votes == votes[0]).all(axis=0).mean() < 0.9
    labels = np.random.default_rng(1).integers(0, 3, 200)
    selection = np.concatenate([selection_matrix(6, m, 5) for m in (1, 2, 4)])
    sums = SweepSums(kept(selection), 3)
    for part in np.array_split(np.arange(200), 3):
        sums.update(labels[part], probs[..., part])
    rows = zip(selection, *sums.result(), sums.brier(), strict=True)
    for row, found_nll, found_dice, found_brier in rows:
        expected = scored_alone(labels, mean_probability(probs[row > 0]))
        assert found_nll == pytest.approx(expected[0], rel=1e-6)
        assert found_dice == pytest.approx(expected[1], rel=1e-12)
        assert found_brier == pytest.approx(expected[2], rel=1e-6)


def nll_of_sure_members(logits, n_members, kept):
    """The NLL of two ensembles of a pool (members, voxels) that is right: fast, and plain."""
    wrong = 1 / (1 + np.exp(logits)).astype(np.float32)
    probs, labels = np.stack([1 - wrong, wrong], axis=1), np.zeros(wrong.shape[1], dtype=int)
    selection = selection_matrix(len(wrong), n_members, 2)
    found, _ = SweepSums(kept(selection), 2).update(labels, probs).result()
    return found, [nll(labels, mean_probability(probs[row > 0])) for row in selection]


@pytest.mark.parametrize("n_members", [3, 7, 10])  # 1 / M is no number of float32
def test_the_nll_of_nearly_perfect_members_keeps_its_digits(n_members, kept):
    logits = np.random.default_rng(0).normal(9, 2, (10, 4000))
    found, expected = nll_of_sure_members(logits, n_members, kept)
    assert max(expected) < 2e-3
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-8)


@pytest.mark.parametrize(("n_members", "accuracy"), [(10, 3e-8), (50, 2e-7)])
def test_the_nll_of_many_sure_members_is_as_accurate_as_the_docstring_says(
    n_members, accuracy, kept
):
    logits = np.random.default_rng(0).uniform(14, 18, (50, 4000))
    found, expected = nll_of_sure_members(logits, n_members, kept)
    np.testing.assert_allclose(found, expected, rtol=0, atol=accuracy)
    told = " ".join(SweepSums.__doc__.split())
    assert "over many voxels to 2e-7 of up to 100 members, 3e-8 of up to ten" in told


@pytest.mark.parametrize("eps", [0, -1e-12, 1e-50, 1e-39, 1, np.nan])
def test_a_floor_that_float32_does_not_have_is_refused(eps, kept):
    with pytest.raises(
        ValueError, match="^eps: found .*, expected a number of float32 from 1.2e-38"
    ):
        SweepSums(kept(np.ones((1, 1))), 2, eps=eps)


def test_the_least_floor_of_float32_is_kept(kept):
    probs, eps = np.float32([[[1], [0]]]), float(np.finfo(np.float32).tiny)
    found, _ = SweepSums(kept(np.ones((1, 1))), 2, eps).update(np.array([1]), probs).result()
    assert found == pytest.approx(-np.log(eps), rel=1e-6)


@pytest.mark.parametrize("largest", [1, 1 + 9e-5])
def test_no_nll_of_a_sweep_is_negative(largest, kept):
    probs = np.tile(np.float32([[largest], [0]]), (10, 1, 5))
    for n_members in range(1, 11):
        sums = SweepSums(kept(selection_matrix(10, n_members, 1)), 2)
        assert sums.update(np.zeros(5, dtype=int), probs).result()[0] == [0]


@pytest.mark.parametrize("shape", [(3, 2, 5), (4, 3, 5), (4, 2, 6), (4, 2)])
def test_a_pool_of_another_shape_is_refused(shape, kept):
    sums = SweepSums(kept(selection_matrix(4, 2, 3)), 2)
    with pytest.raises(ValueError, match=r"^shape of member_probs: found .* \(4, 2, N\), labels"):
        sums.update(np.zeros(5, dtype=int), np.full(shape, 1 / shape[1], dtype=np.float32))
    with pytest.raises(ValueError, match="^shape of member_probs: found .*, labels of .5, 1."):
        sums.update(np.zeros((5, 1), dtype=int), np.full((4, 2, 5, 1), 0.5, dtype=np.float32))


def test_the_brier_score_of_nearly_perfect_members_keeps_its_digits():
    probs = np.array([[[0.9999], [0.0001]], [[0.9998], [0.0002]]], dtype=np.float32)
    sums = SweepSums(np.array([[0.5, 0.5]]), 2).update(np.array([0]), probs)
    assert sums.brier() == pytest.approx([2 * 0.00015**2], rel=1e-3)  # of float32 near 1
    exact = brier_score(np.array([0]), mean_probability(probs))
    assert sums.brier() == pytest.approx([exact], rel=1e-6)


@pytest.mark.parametrize("pair", [(0.5, np.nan), (0.5, 0.501), (1.1, -0.1), (1.00005, -0.00005)])
def test_what_is_no_probability_is_refused(pair, kept):
    probs = np.full((1, 2, 3), 0.5, dtype=np.float32)
    probs[0, :, 2] = pair
    with pytest.raises(ValueError, match="probs"):
        SweepSums(kept(np.ones((1, 1))), 2).update(np.zeros(3, dtype=int), probs)


@pytest.mark.parametrize("dtype", (np.uint8, np.int16, np.uint16))
def test_labels_of_any_integers_and_ties_score_alike_in_both_libraries(dtype):
    probs = np.full((2, 4, 5), 0.25, dtype=np.float32)  # a tie goes to the lowest class
    labels = np.array([0, 1, 2, 3, 0], dtype=dtype)
    found = []
    for of_library in (np.asarray, torch.as_tensor):
        sums = SweepSums(of_library(np.full((1, 2), 0.5)), 4, n_missed=np.uint64([0, 1, 0]))
        found.append((*sums.update(labels, of_library(probs)).result(), sums.brier()))
    assert all(isinstance(values, np.ndarray) for values in found[1])
    np.testing.assert_allclose(found[1], found[0], rtol=1e-6)
    assert found[0][1] == 0


def test_members_on_a_device_are_summed_there():
    selection = torch.ones((1, 1), device="meta")
    assert SweepSums(selection, 3, n_missed=[1, 2]).total.device.type == "meta"


def test_a_segment_in_neither_mask_counts_as_found():
    probs = np.zeros((1, 3, 5), dtype=np.float32)
    probs[:, 0] = 1
    _, dice = SweepSums(np.ones((1, 1)), 3).update(np.zeros(5, dtype=int), probs).result()
    assert dice == 1


def test_without_a_voxel_there_is_no_score(kept):
    sums = SweepSums(kept(np.ones((4, 1))), 3)
    assert np.isnan(sums.result()).all() and np.isnan(sums.brier()).all()


def test_a_block_without_a_voxel_adds_nothing(kept):
    sums = SweepSums(kept(np.ones((1, 1))), 2)
    probs = np.array([[[0.25, 0.75], [0.75, 0.25]]], dtype=np.float32)
    sums.update(np.array([1, 0]), probs)
    before = sums.result()
    sums.update(np.array([], dtype=int), np.empty((1, 2, 0), dtype=np.float32))
    assert np.array_equal(sums.result(), before)


def test_what_lies_outside_counts_as_missed(kept):
    probs = np.array([[[0.25, 0.75], [0.75, 0.25]]], dtype=np.float32)
    sums = SweepSums(kept(np.ones((1, 1))), 2, n_missed=[2]).update(np.array([1, 0]), probs)
    assert sums.result()[1].tolist() == [2 * 1 / (1 + 1 + 2)]


@pytest.mark.parametrize("label", [-1, 2])
def test_a_label_that_is_no_class_is_refused_in_a_sweep(label):
    pool = np.full((2, 2, 3), 0.5, dtype=np.float32)
    sums = SweepSums(np.eye(2), n_classes=2)
    with pytest.raises(ValueError, match="^labels: found values from .*, expected 0 to 1"):
        sums.update(np.array([0, 1, label]), pool)
