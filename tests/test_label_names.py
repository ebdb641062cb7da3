import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from segcal_lite.data.labels import LabelNames, read_label_names

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
        ({"background": 0, "a": 1, "ignore": 2, "Ignore": 3}, r"found \[2, 3\], expected one"),
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
    ],
)
def test_labels_that_are_none(labels, message):
    with pytest.raises(ValueError, match=message):
        read(labels, [1, 2])
