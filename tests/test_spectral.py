"""The spectral signature, its streaming form, OODM and the threshold."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from segcal_lite.spectral import (
    RELATIVE_EPSILON,
    RankDeficientWarning,
    SpectrumSums,
    leave_one_out_oodm,
    ood_threshold,
    oodm,
    signature_of_spectrum,
    spectral_signature,
    threshold_of_scores,
)


def random_map(seed=0, shape=(5, 6, 7, 4)):
    """A map whose channels differ in scale and are correlated, so that no two s are equal."""
    rng = np.random.default_rng(seed)
    channels = rng.normal(size=shape) * np.geomspace(20, 0.05, shape[0]).reshape(
        -1, *[1] * (len(shape) - 1)
    )
    return np.tensordot(rotation(shape[0], seed), channels, axes=1)


def rotation(n, seed=0):
    return np.linalg.qr(np.random.default_rng(seed).normal(size=(n, n)))[0]


def signature_by_hand(singular_values):
    logarithms = np.log(singular_values)
    return logarithms / np.sqrt(np.sum(logarithms**2))


# The signature


def test_signature_equals_numpy_svd_of_voxels_by_channels():
    feature_map = random_map()
    matrix = np.stack([channel.ravel() for channel in feature_map], axis=1)
    assert matrix.shape == (6 * 7 * 4, 5)
    expected = signature_by_hand(np.linalg.svd(matrix, full_matrices=False)[1])
    np.testing.assert_allclose(spectral_signature(feature_map), expected, atol=1e-12)


def test_signature_of_a_spectrum_chosen_by_hand():
    # F = U diag(e^3, e^2, e^-1) V with random U and V.
    u = np.linalg.qr(np.random.default_rng(1).normal(size=(60, 3)))[0]
    matrix = u @ np.diag(np.exp([3.0, 2.0, -1.0])) @ rotation(3, seed=2)
    signature = spectral_signature(matrix.T.reshape(3, 3, 4, 5))
    np.testing.assert_allclose(signature, np.array([3, 2, -1]) / np.sqrt(14), atol=1e-12)


def test_signature_is_descending_float64_of_unit_length():
    signature = spectral_signature(random_map().astype(np.float32))
    assert signature.dtype == np.float64
    assert signature.shape == (5,)
    assert np.all(np.diff(signature) < 0)
    assert np.linalg.norm(signature) == pytest.approx(1, abs=1e-12)


def test_it_is_the_diagonal_that_counts_and_not_a_matrix_of_the_svd():
    """The first known mistake: S as a matrix, or the diagonal of V, in place of s."""
    feature_map = random_map()
    matrix = feature_map.reshape(5, -1).T
    _, singular_values, v = np.linalg.svd(matrix, full_matrices=False)
    signature = spectral_signature(feature_map)
    assert signature.ndim == 1
    with np.errstate(divide="ignore"):
        assert not np.all(np.isfinite(np.log(np.diag(singular_values))))  # off-diagonal log(0)
    wrong = signature_by_hand(np.abs(np.diag(v)))
    assert np.abs(signature - wrong).max() > 0.1
    # V changes with a rotation of the channels; the signature must not.
    rotated = np.tensordot(rotation(5, seed=9), feature_map, axes=1)
    np.testing.assert_allclose(spectral_signature(rotated), signature, atol=1e-10)


@pytest.mark.filterwarnings("error::RuntimeWarning")
@pytest.mark.parametrize("kind", ["dead channel", "repeated channel", "fewer voxels"])
def test_zero_singular_values_are_floored_and_never_logged(kind):
    """The second known mistake: log(0)."""
    feature_map = random_map(shape=(4, 6, 5))
    if kind == "dead channel":
        feature_map[2] = 0
        rank = 3
    elif kind == "repeated channel":
        feature_map[3] = feature_map[0]
        rank = 3
    else:
        feature_map = feature_map[:, :1, :2]
        rank = 2
    found = np.linalg.svd(feature_map.reshape(4, -1).T, compute_uv=False)[:rank]
    floored = np.concatenate([found, np.full(4 - rank, RELATIVE_EPSILON * found[0])])
    message = f"{4 - rank} of 4 singular values lay below 1e-06 of the largest and were raised"
    with pytest.warns(RankDeficientWarning, match=message):
        signature = spectral_signature(feature_map)
    np.testing.assert_allclose(signature, signature_by_hand(floored), atol=1e-10)


def test_floor_is_relative_to_the_largest_and_set_by_the_argument():
    feature_map = np.diag([100.0, 10.0, 1e-3])
    expected = signature_by_hand([100.0, 10.0, 1.0 + 1e-12])
    signature = spectral_signature(feature_map, relative_epsilon=0.01)
    np.testing.assert_allclose(signature, expected, atol=1e-10)
    expected = signature_by_hand([100.0, 10.0, 1e-3])
    np.testing.assert_allclose(spectral_signature(feature_map), expected, atol=1e-12)


def test_constant_channels_give_rank_one():
    feature_map = np.ones((3, 4, 4)) * np.array([1.0, 2.0, 2.0])[:, None, None]
    largest = np.sqrt(16 * 9)
    expected = signature_by_hand([largest, largest * 1e-6, largest * 1e-6])
    np.testing.assert_allclose(spectral_signature(feature_map), expected, atol=1e-10)


def test_repeating_every_voxel_moves_the_printed_signature_only():
    feature_map = random_map()
    repeated = np.repeat(feature_map, 8, axis=1)
    signature = spectral_signature(feature_map)
    assert np.linalg.norm(spectral_signature(repeated) - signature) > 0.05
    np.testing.assert_allclose(
        spectral_signature(repeated, divide_by_sqrt_voxels=True),
        spectral_signature(feature_map, divide_by_sqrt_voxels=True),
        atol=1e-12,
    )
    singular_values = np.linalg.svd(feature_map.reshape(5, -1), compute_uv=False)
    np.testing.assert_allclose(
        spectral_signature(repeated), signature_by_hand(np.sqrt(8) * singular_values), atol=1e-12
    )


def test_division_by_sqrt_voxels_uses_the_number_of_voxels():
    feature_map = random_map(shape=(3, 5, 4))
    singular_values = np.linalg.svd(feature_map.reshape(3, -1), compute_uv=False)
    np.testing.assert_allclose(
        spectral_signature(feature_map, divide_by_sqrt_voxels=True),
        signature_by_hand(singular_values / np.sqrt(20)),
        atol=1e-12,
    )


def test_invariant_to_a_power_of_the_spectrum_and_not_to_its_scale():
    spectrum = np.array([7.0, 3.0, 0.5])
    signature = spectral_signature(np.diag(spectrum))
    np.testing.assert_allclose(spectral_signature(np.diag(spectrum**3)), signature, atol=1e-12)
    assert np.linalg.norm(spectral_signature(np.diag(10 * spectrum)) - signature) > 0.1


def test_large_feature_scales_make_every_signature_the_constant_vector():
    signature = spectral_signature(1e150 * random_map())
    np.testing.assert_allclose(signature, np.full(5, 5**-0.5), atol=0.01)


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000),
    st.integers(1, 5),
    st.lists(st.integers(1, 5), min_size=1, max_size=3),
)
def test_permuted_voxels_and_rotated_channels_leave_the_signature(seed, n_channels, sizes):
    rng = np.random.default_rng(seed)
    feature_map = rng.normal(3, 2, size=(n_channels, *sizes))
    signature = spectral_signature(feature_map)
    flat = feature_map.reshape(n_channels, -1)
    permuted = flat[:, rng.permutation(flat.shape[1])].reshape(feature_map.shape)
    rotated = np.tensordot(rotation(n_channels, seed), feature_map, axes=1)
    np.testing.assert_allclose(spectral_signature(permuted), signature, atol=1e-8)
    np.testing.assert_allclose(spectral_signature(rotated), signature, atol=1e-8)
    np.testing.assert_allclose(spectral_signature(-feature_map), signature, atol=1e-8)
    assert signature.shape == (n_channels,)


# Streaming


def test_streamed_blocks_equal_the_whole_map():
    feature_map = random_map(shape=(14, 20, 11, 9)).astype(np.float32)
    sums = SpectrumSums(14)
    for block in np.array_split(feature_map, 6, axis=1):
        sums.update(block)
    assert sums.n_voxels == 20 * 11 * 9
    whole = np.linalg.svd(feature_map.reshape(14, -1).astype(np.float64), compute_uv=False)
    np.testing.assert_allclose(sums.singular_values(), whole, rtol=1e-12)
    for divided in (False, True):
        np.testing.assert_allclose(
            sums.signature(divide_by_sqrt_voxels=divided),
            spectral_signature(feature_map, divide_by_sqrt_voxels=divided),
            atol=1e-12,
        )


@pytest.mark.parametrize("n_voxels", [4095, 4096, 4097, 40_000])
def test_long_blocks_have_the_same_spectrum(n_voxels):
    rng = np.random.default_rng(n_voxels)
    block = rng.normal(size=(3, n_voxels)) * np.array([100.0, 1.0, 1e-5])[:, None]
    expected = np.linalg.svd(block.T, compute_uv=False)
    sums = SpectrumSums(3).update(block)
    np.testing.assert_allclose(sums.singular_values(), expected, rtol=1e-9)
    assert sums.n_voxels == n_voxels


def test_many_channels_have_the_same_spectrum():
    block = np.random.default_rng(0).normal(size=(600, 3000))
    sums = SpectrumSums(600).update(block)
    np.testing.assert_allclose(
        sums.singular_values(), np.linalg.svd(block, compute_uv=False), rtol=1e-9
    )


def test_streaming_keeps_singular_values_that_a_gram_matrix_loses():
    spectrum = np.array([1e5, 1.0, 1e-5])
    u = np.linalg.qr(np.random.default_rng(0).normal(size=(90, 3)))[0]
    feature_map = (u * spectrum @ rotation(3)).T
    sums = SpectrumSums(3)
    for block in np.split(feature_map, 9, axis=1):
        sums.update(block)
    np.testing.assert_allclose(sums.singular_values(), spectrum, rtol=1e-5)
    gram = np.sqrt(np.abs(np.linalg.eigvalsh(feature_map @ feature_map.T)[::-1]))
    assert abs(gram[2] / spectrum[2] - 1) > 0.1


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.lists(st.integers(0, 9), min_size=1, max_size=6))
def test_any_partition_and_any_merge_order_give_the_same_spectrum(seed, block_sizes):
    rng = np.random.default_rng(seed)
    blocks = [rng.normal(size=(4, n)) for n in block_sizes]
    whole = np.concatenate(blocks, axis=1)
    expected = np.zeros(4)
    found = np.linalg.svd(whole, compute_uv=False)
    expected[: found.size] = found
    left, right = SpectrumSums(4), SpectrumSums(4)
    for i, block in enumerate(blocks):
        (left, right)[i % 2].update(block)
    assert left.merge(right) is left
    assert left.n_voxels == sum(block_sizes)
    np.testing.assert_allclose(left.singular_values(), expected, atol=1e-10)


def test_merge_leaves_the_other_alone_and_may_be_empty():
    feature_map = random_map()
    filled, empty = SpectrumSums(5).update(feature_map), SpectrumSums(5)
    before = filled.singular_values()
    empty.merge(filled)
    np.testing.assert_allclose(empty.singular_values(), before, rtol=1e-12)
    np.testing.assert_array_equal(filled.singular_values(), before)
    filled.merge(SpectrumSums(5))
    np.testing.assert_allclose(filled.singular_values(), before, rtol=1e-12)


def test_a_voxel_seen_twice_is_counted_twice():
    feature_map = random_map()
    sums = SpectrumSums(5).update(feature_map).update(feature_map)
    once = np.linalg.svd(feature_map.reshape(5, -1), compute_uv=False)
    np.testing.assert_allclose(sums.singular_values(), np.sqrt(2) * once, rtol=1e-12)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("smallest", [1.0, 1e-2, 1e-4, 1e-6])
def test_singular_values_are_as_exact_as_those_of_an_svd_in_double(dtype, smallest):
    rng = np.random.default_rng(3)
    channels = rng.normal(size=(8, 10_000)) * np.geomspace(1, smallest, 8)[:, None]
    features = (rotation(8) @ channels).astype(dtype)
    expected = np.linalg.svd(features.astype(np.float64), compute_uv=False)
    found = SpectrumSums(8).update(features).singular_values()
    np.testing.assert_allclose(found, expected, rtol=1e-13 / smallest)


@pytest.mark.parametrize(
    "features",
    [
        np.float32(1e-44) * np.arange(-3, 9, dtype=np.float32).reshape(2, 6),
        np.float32(1e37) * np.eye(2, 6, dtype=np.float32),
        1e-315 * np.arange(1.0, 13).reshape(2, 6),
        1e300 * np.eye(2, 6),
    ],
)
@pytest.mark.filterwarnings("error::RuntimeWarning")
def test_features_of_any_size_have_a_spectrum(features):
    scale = float(np.abs(features).max())
    expected = np.linalg.svd(features.astype(np.float64) / scale, compute_uv=False)
    found = SpectrumSums(2).update(features).singular_values()
    np.testing.assert_allclose(found / scale, expected, rtol=1e-6)


@pytest.mark.parametrize("exponent", [-40, 40])
def test_a_power_of_two_changes_no_digit(exponent):
    features = random_map().astype(np.float32)
    once = SpectrumSums(5).update(features).singular_values()
    found = SpectrumSums(5).update(np.ldexp(features, exponent)).singular_values()
    np.testing.assert_allclose(np.ldexp(found, -exponent), once, rtol=1e-12)


def test_one_update_keeps_no_more_than_a_square():
    assert SpectrumSums(5).update(random_map())._root.shape == (5, 5)


# Distances and threshold


def test_oodm_is_the_smallest_euclidean_distance():
    reference = np.array([[0.0, 0.0], [3.0, 4.0], [10.0, 0.0]])
    assert oodm([0.0, 1.0], reference) == 1.0
    assert oodm([3.0, 8.0], reference) == 4.0
    assert isinstance(oodm([3.0, 8.0], reference), float)
    np.testing.assert_array_equal(oodm([[0, 1], [3, 8], [10, 0]], reference), [1.0, 4.0, 0.0])
    assert oodm(np.zeros((0, 2)), reference).shape == (0,)


def test_oodm_needs_one_reference_only():
    assert oodm([0.0, 3.0], [[4.0, 0.0]]) == 5.0


def test_leave_one_out_by_hand():
    reference = [[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]
    np.testing.assert_allclose(leave_one_out_oodm(reference), [5.0, 1.0, 1.0])


def test_leave_one_out_leaves_one_out_and_not_its_double():
    np.testing.assert_array_equal(leave_one_out_oodm([[1.0], [1.0], [4.0]]), [0.0, 0.0, 3.0])


def test_threshold_by_hand():
    # Leave-one-out OODM 5, 1, 1: mean 7/3, population variance 32/9.
    reference = [[0.0, 0.0], [3.0, 4.0], [3.0, 5.0]]
    expected = 7 / 3 + 2.5 * np.sqrt(32 / 9)
    assert ood_threshold(reference) == pytest.approx(expected, abs=1e-12)
    assert ood_threshold(reference, c=-1) == pytest.approx(7 / 3 - np.sqrt(32 / 9), abs=1e-12)
    assert isinstance(ood_threshold(reference), float)


@settings(max_examples=40, deadline=None)
@given(
    arrays(np.float64, st.tuples(st.integers(2, 8), st.integers(1, 4)), elements=st.floats(-5, 5))
)
def test_leave_one_out_equals_oodm_against_the_others(reference):
    expected = [oodm(row, np.delete(reference, i, axis=0)) for i, row in enumerate(reference)]
    np.testing.assert_array_equal(leave_one_out_oodm(reference), expected)
    np.testing.assert_array_equal(oodm(reference, reference), np.zeros(len(reference)))


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 12))
def test_oodm_of_signatures_lies_between_0_and_2(seed, n):
    rng = np.random.default_rng(seed)
    signatures = rng.normal(size=(n, 14))
    signatures /= np.linalg.norm(signatures, axis=1, keepdims=True)
    scores = leave_one_out_oodm(signatures)
    assert np.all((scores >= 0) & (scores <= 2))
    assert scores.mean() <= ood_threshold(signatures)


# Wrong input


@pytest.mark.parametrize(
    ("feature_map", "message"),
    [
        (np.ones(4), r"feature_map: found shape \(4,\), expected \(C, \*S\)"),
        (np.ones((0, 4)), r"feature_map: found shape \(0, 4\)"),
        (np.ones((3, 4, 0)), "feature_map: found no value but 0, expected at least one"),
        (np.zeros((3, 4, 4)), "feature_map: found no value but 0, expected at least one"),
        (np.array([[1.0, np.nan]]), "feature_map: found 1 NaN or infinite"),
        (np.array([[1.0, np.inf]]), "feature_map: found 1 NaN or infinite"),
        (np.eye(3), "feature_map: found singular values that are all 1"),
        (rotation(3), "feature_map: found singular values that are all 1"),
    ],
)
@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("streamed", [False, True])
def test_maps_without_a_signature_are_refused(feature_map, message, streamed):
    message = message.replace("feature_map: found", "(feature_map|block): found")
    with pytest.raises(ValueError, match=message):
        if streamed:
            SpectrumSums(max(1, feature_map.shape[0])).update(feature_map).signature()
        else:
            spectral_signature(feature_map)


@pytest.mark.parametrize("relative_epsilon", [0, 1, -1e-6, np.nan])
def test_epsilon_outside_0_1_is_refused(relative_epsilon):
    with pytest.raises(ValueError, match="relative_epsilon: found"):
        spectral_signature(random_map(), relative_epsilon=relative_epsilon)


@pytest.mark.filterwarnings("error")
def test_sums_refuse_other_channels_and_no_voxels():
    with pytest.raises(ValueError, match="n_channels: found 0"):
        SpectrumSums(0)
    with pytest.raises(ValueError, match="block: found 5 channels, expected 4"):
        SpectrumSums(4).update(random_map())
    with pytest.raises(ValueError, match="other: found 5 channels, expected 4"):
        SpectrumSums(4).merge(SpectrumSums(5))
    with pytest.raises(ValueError, match="feature_map: found no value but 0"):
        SpectrumSums(4).signature(divide_by_sqrt_voxels=True)
    np.testing.assert_array_equal(SpectrumSums(4).singular_values(), np.zeros(4))


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: oodm([1.0, 2.0], np.zeros((0, 2))), "reference: found shape"),
        (lambda: oodm([1.0, 2.0], [1.0, 2.0]), "reference: found shape"),
        (lambda: oodm([1.0, 2.0], [[1.0, 2.0, 3.0]]), r"signature: found shape \(2,\)"),
        (lambda: oodm(1.0, [[1.0]]), r"signature: found shape \(\)"),
        (lambda: oodm([[[1.0]]], [[1.0]]), r"signature: found shape \(1, 1, 1\)"),
        (lambda: oodm([np.nan], [[1.0]]), "signature: found 1 NaN"),
        (lambda: oodm([1.0], [[np.inf]]), "reference: found 1 NaN"),
        (lambda: leave_one_out_oodm([[1.0, 2.0]]), "R >= 2"),
        (lambda: leave_one_out_oodm(np.eye(3), ["a", "b", np.nan]), "^patients: found 1 missing"),
        (lambda: leave_one_out_oodm(np.eye(3), [1.0, np.nan, np.nan]), "patients: found 2 missing"),
        (lambda: ood_threshold(np.eye(3), patients=["a", None, "b"]), "expected one for each of 3"),
        (lambda: ood_threshold([[1.0, 2.0]]), "R >= 2"),
        (lambda: ood_threshold([[1.0], [2.0]], c=np.nan), "c: found 1 NaN"),
        (lambda: threshold_of_scores([]), "training_scores: found shape"),
        (lambda: threshold_of_scores([1.0, np.inf]), "training_scores: found 1 NaN"),
    ],
)
def test_wrong_distances_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_constant_channels_are_no_defect_but_two_of_them_depend_on_each_other(recwarn):
    feature_map = random_map(shape=(4, 6, 5))
    feature_map[1] = 3.0
    assert np.isfinite(spectral_signature(feature_map)).all()
    assert len(recwarn) == 0
    feature_map[2] = -7.0
    with pytest.warns(RankDeficientWarning, match="1 of 4 singular values .* silent or dependent"):
        spectral_signature(feature_map)


def test_a_spectrum_at_hand_gives_the_signature_of_its_map():
    feature_map = random_map(shape=(4, 6, 5))
    s = np.linalg.svd(feature_map.reshape(4, -1), compute_uv=False)
    np.testing.assert_allclose(signature_of_spectrum(s), spectral_signature(feature_map))
    divided = spectral_signature(feature_map, divide_by_sqrt_voxels=True)
    np.testing.assert_allclose(signature_of_spectrum(s, n_voxels=30), divided)
    with pytest.raises(ValueError, match="singular_values: found -1, expected values of at least"):
        signature_of_spectrum([1.0, -1.0])
    for wrong in ([], [[1.0]]):
        with pytest.raises(ValueError, match="singular_values: found shape"):
            signature_of_spectrum(wrong)
    with pytest.raises(ValueError, match="singular_values: found 1 NaN"):
        signature_of_spectrum([1.0, np.nan])


@pytest.mark.parametrize("n_voxels", [0, -4, float("nan"), "8"])
def test_a_number_of_voxels_is_at_least_one(n_voxels):
    with pytest.raises(ValueError, match="n_voxels"):
        signature_of_spectrum([3.0, 2.0], n_voxels)
