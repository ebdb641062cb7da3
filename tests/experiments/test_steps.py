"""The smoke profile takes minutes, however many volumes a dataset has: its steps are bounded."""

import nibabel as nib
import numpy as np
import pytest
from conftest import write_discs

from segcal_lite.data.datasets import read_dataset
from segcal_lite.experiments import settled
from segcal_lite.experiments.settled import settle


@pytest.fixture(scope="module")
def discs(tmp_path_factory):
    """Three training cases of 3 slices across the third axis: 2 steps of 4 slices an epoch."""
    return read_dataset(write_discs(tmp_path_factory.mktemp("discs") / "a"))


@pytest.mark.parametrize(("most", "expected"), [(400, 6), (12, 6), (11, 5), (5, 2), (1, 1)])
def test_epochs_are_as_many_as_steps_allow(most, expected, discs, monkeypatch):
    monkeypatch.setattr(settled, "MOST_STEPS", most)
    _, profile, grid = settle(discs, crop_size=(32, 32))
    assert profile.n_epochs == expected
    notes = [note for note in grid.notes if "epochs" in note]
    told = f"{expected} of the smoke profile's 6 epochs, for an epoch of these data has 2 steps; "
    assert notes == ([told + "n_epochs asks for more"] if expected < 6 else [])


def test_epochs_asked_for_and_other_profiles_stay(discs, monkeypatch):
    monkeypatch.setattr(settled, "MOST_STEPS", 1)
    assert settle(discs, crop_size=(32, 32), n_epochs=5)[1].n_epochs == 5
    assert settle(discs, profile="laptop", crop_size=(32, 32))[1].n_epochs == 40


def test_a_volume_is_one_sample(discs, monkeypatch):
    monkeypatch.setattr(settled, "MOST_STEPS", 5)  # 3 volumes in mini-batches of 2: 1 step
    assert settle(discs, crop_size=(32, 32, 16), cut_foreground=True)[1].n_epochs == 5


def test_slices_are_counted_across_the_axis_on_any_grid(discs):
    extent = settled.survey(discs)[0]
    turned = nib.as_closest_canonical(nib.load(extent.case.label_path)).affine
    swapped = type(extent)(extent.case, (3, 24, 20), turned[:, [2, 0, 1, 3]], {})
    assert [swapped.n_slices(axis) for axis in (0, 1, 2)] == [24, 20, 3]
    assert np.array_equal(extent.n_slices(2), 3)
