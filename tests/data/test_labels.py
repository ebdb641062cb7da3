import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from segcal_lite.calibration import nll
from segcal_lite.data.labels import (
    LabelNames,
    annotated,
    binary_problems,
    exclusive_classes,
    read_label_names,
    region_labels,
    region_probs,
    segment_masks,
    segment_probs,
)

REGIONS = ((1, 2, 3), (2, 3), (3,))  # nested, as whole tumour, core and enhancing core

BRATS = {"background": 0, "whole": [1, 2, 3], "core": [2, 3], "enhancing": 3}


def read(labels, order=None):
    return read_label_names("dataset.json", labels, order)


def test_a_list_of_one_value_is_a_class():
    assert read({"background": [0], "b": [5], "a": 1}) == LabelNames(("a", "b"), (0, 1, 5))


def test_an_order_without_regions_changes_nothing():
    labels = {"background": 0, "a": [1], "b": 2}
    assert read(labels, [2, 1]) == read(labels) == LabelNames(("a", "b"), (0, 1, 2))


def test_regions_in_file_order():
    names = read(BRATS, [1, 2, 3])
    assert names.segments == ("whole", "core", "enhancing")
    assert names.label_values == (0, 1, 2, 3)
    assert names.regions == ((1, 2, 3), (2, 3), (3,))
    assert names.region_order == (1, 2, 3)
    assert names.ignore_value is None


def test_regions_with_gaps_are_renumbered():
    names = read({"background": 0, "a": [9, 4, 4], "c": 7, "b": [4]}, [9, 7, 4])
    assert names.label_values == (0, 4, 7, 9)
    assert names.regions == ((1, 3), (2,), (1,))
    assert names.region_order == (3, 2, 1)


def test_a_class_needs_no_region_of_its_own():
    names = read({"background": 0, "whole": [1, 2, 3], "enhancing": 3}, [1, 3])
    assert (names.regions, names.region_order) == (((1, 2, 3), (3,)), (1, 3))


@pytest.mark.parametrize(
    ("order", "message"),
    [
        (None, "found None, expected one value for each of whole, core, enhancing, larger"),
        ({}, "found {}, expected one value for each"),
        ([1, 2], r"found \[1, 2\], expected one value for each of whole, core, enhancing"),
        ([0, 2, 3], "found 0 for whole, expected a value of that region which no later"),
        ([1, 1, 3], "found 1 for core, expected a value of that region"),
        ([1, "2", 3], "found '2' for core, expected"),
        ([3, 2, 3], "found 3 for whole, expected a value of that region which no later one has"),
        ([1.0, 2, 3], "found 1.0 for whole, expected"),
    ],
)
def test_an_order_that_does_not_fit(order, message):
    with pytest.raises(ValueError, match=f"dataset.json, regions_class_order: {message}"):
        read(BRATS, order)


def test_small_regions_first_would_never_show():
    labels = dict(reversed(BRATS.items()))
    with pytest.raises(ValueError, match="found 3 for enhancing, expected a value of that region"):
        read(labels, [3, 2, 1])


@given(
    st.lists(st.sets(st.integers(1, 6), min_size=1), min_size=1, max_size=4).flatmap(
        lambda sets: st.tuples(
            st.just(sets), st.tuples(*[st.sampled_from(sorted(each)) for each in sets])
        )
    )
)
def test_an_order_that_is_taken_lets_every_region_be_seen(regions_and_order):
    """Regions painted one over the other: each leaves its value somewhere."""
    regions, order = regions_and_order
    labels = {"background": 0} | {f"r{n}": sorted(each) for n, each in enumerate(regions)}
    try:
        names = read(labels, list(order))
    except ValueError:
        return
    values = np.array(names.label_values)
    painted = np.zeros_like(values)
    for region, left in zip(names.regions, names.region_order, strict=True):
        painted[list(region)] = left
    if names.regions:
        assert set(names.region_order) <= set(painted.tolist())
        assert [painted[left] for left in names.region_order] == list(names.region_order)


@pytest.mark.parametrize("labels", [BRATS, {"background": 0, "a": 1, "b": 2}])
def test_an_ignore_label_is_no_segment(labels):
    expected = read(labels, [1, 2, 3])
    names = read(labels | {"ignore": 6}, [1, 2, 3])
    assert names.ignore_value == 6
    assert names == LabelNames(
        expected.segments, expected.label_values, expected.regions, expected.region_order, 6
    )


@pytest.mark.parametrize("name", ["ignore", "Ignore"])
def test_an_ignore_label_in_the_older_form(name):
    names = read({"0": "background", "1": "a", "2": name})
    assert (names.segments, names.label_values, names.ignore_value) == (("a",), (0, 1), 2)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        (
            {"background": 0, "a": 2, "ignore": 1},
            r"labels, ignore: found \[1\], expected one",
        ),
        ({"background": 0, "a": 2, "ignore": 2}, "above the highest, 2"),
        ({"background": 0, "a": [1, 3], "ignore": 2}, "above the highest, 3"),
        ({"background": 0, "a": 1, "ignore": [2, 3]}, r"found \[2, 3\], expected one value"),
        ({"background": 0, "a": 1, "ignore": 2, "Ignore": 3}, "found 'ignore' and 'Ignore'"),
        ({"background": 0, "ignore": 1}, "expected background and at least one segment"),
        ({"background": 0, "a": []}, r"found 'a': \[\], expected names with integers"),
        ({"background": 0, "a": [1, -2]}, r"found 'a': \[1, -2\], expected names with"),
        ({"background": 0, "a": [[1]]}, r"found 'a': \[\[1\]\], expected names with"),
        (
            {"background": 0, "a": [0, 1]},
            r"found values \[0, 0, 1\], expected 0 for the",
        ),
        ({"a": [0, 1], "b": 2}, r"found values \[0, 1, 2\], expected 0 for the background"),
        ({"background": 0, "a": [1], "b": [1]}, "each value once"),
        ({"0": "background", "1": "a", "2": "a"}, "found the name 'a' twice"),
        ({"background": 0, "Liver": 1, "liver": 2}, "found 'Liver' and 'liver', expected names"),
        ({"background": 0, "\u00e9": 1, "e\u0301": 2}, "differ by more than upper and lower case"),
        ({"background": 0, " liver": 1}, "found ' liver', expected a name without blanks"),
    ],
)
def test_labels_that_are_none(labels, message):
    with pytest.raises(ValueError, match=message):
        read(labels, [1, 2])


def drawn(seed, n_classes=4, shape=(3, 4, 2), lowest=-1):
    rng = np.random.default_rng(seed)
    labels = rng.integers(lowest, n_classes, shape)
    return labels, np.moveaxis(rng.dirichlet(np.ones(n_classes), shape), -1, 0)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 1000))
def test_region_labels_are_unions_of_classes_voxel_by_voxel(seed):
    labels, _ = drawn(seed)
    found = region_labels(labels, REGIONS)
    assert found.dtype == np.int8
    for at in np.ndindex(labels.shape):
        expected = [-1 if labels[at] < 0 else int(labels[at] in classes) for classes in REGIONS]
        assert found[(slice(None), *at)].tolist() == expected


def test_a_class_that_no_case_holds_is_no_trouble():
    assert region_labels(np.array([0, 1], dtype=np.int16), REGIONS).tolist() == [
        [0, 1],
        [0, 0],
        [0, 0],
    ]
    assert region_labels(np.array([0, 5]), ((1,),)).tolist() == [[0, 0]]


def test_region_probabilities_are_sums_and_never_below_0():
    _, probs = drawn(0)
    found = region_probs(probs.astype(np.float32), REGIONS)
    assert found.shape == (2, 3, 3, 4, 2)
    assert np.allclose(found[1], [probs[1:].sum(axis=0), probs[2:].sum(axis=0), probs[3]])
    assert np.allclose(found.sum(axis=0), 1)
    above_one = region_probs(np.array([[0.0], [0.5 + 1e-7], [0.5]]), ((1, 2),))
    assert above_one.min() == 0


def test_annotated_leaves_whole_arrays_alone():
    labels, probs = drawn(1, lowest=0)
    same_labels, same_probs = annotated(labels, probs)
    assert same_labels is labels
    assert same_probs is probs


def test_annotated_drops_the_same_voxels_of_both_whatever_stands_in_front():
    labels, probs = drawn(2)
    members = np.stack([probs, 1 - probs])
    found_labels, found = annotated(labels, members)
    known = labels >= 0
    assert found.shape == (2, 4, known.sum())
    for k in range(4):
        assert np.array_equal(found[0, k], probs[k][known])
    expected = -np.log([probs[labels[at], *at] for at in zip(*np.nonzero(known), strict=True)])
    assert nll(found_labels, found[0]) == pytest.approx(np.mean(expected))


def test_masks_and_probabilities_of_a_segment_agree_in_both_forms():
    """One region a class: overlapping problems of classes that exclude each other."""
    labels, probs = drawn(3)
    predicted = probs.argmax(axis=0)
    alone = tuple((k,) for k in range(1, 4))
    as_regions = region_labels(labels, alone), region_labels(predicted, alone)
    for k in range(1, 4):
        pair = segment_masks(labels, predicted, k)
        other = segment_masks(*as_regions, k)
        for mask, same in zip(pair, other, strict=True):
            assert np.array_equal(mask, same)
        assert not pair[1][labels < 0].any()
        whole, index = segment_probs(probs, k)
        assert whole is probs
        assert index == k
        binary, index = segment_probs(region_probs(probs, alone), k)
        assert np.allclose(binary[index], probs[k])


def test_problems_are_the_volume_itself_or_its_regions():
    labels, probs = drawn(4)
    ((same_labels, same_probs),) = binary_problems(labels, probs)
    assert same_labels is labels
    assert same_probs is probs
    by_region = region_labels(labels, REGIONS), region_probs(probs, REGIONS)
    for members in (by_region[1], np.stack([by_region[1]] * 2)):
        problems = list(binary_problems(by_region[0], members))
        assert len(problems) == 3
        for r, (one, one_probs) in enumerate(problems):
            assert np.array_equal(one, by_region[0][r])
            assert np.array_equal(one_probs, members[..., r, :, :, :])


def test_the_last_region_that_is_predicted_leaves_its_class():
    predicted = np.array([[0, 1, 1, 1, 0], [0, 0, 1, 0, 1], [0, 0, 0, 1, 0]])
    assert exclusive_classes(predicted, (2, 1, 3)).tolist() == [0, 2, 1, 3, 1]
    with pytest.raises(ValueError, match="region_order: found 2 classes, expected 3"):
        exclusive_classes(predicted, (1, 2))
    with pytest.raises(ValueError, match=r"probs: found shape \(2, 3\)"):
        segment_probs(np.zeros((2, 3)), 1)


def test_the_truth_of_nested_regions_gives_its_classes_back():
    labels, _ = drawn(5, lowest=0)
    assert np.array_equal(exclusive_classes(region_labels(labels, REGIONS), (1, 2, 3)), labels)
