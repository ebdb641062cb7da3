from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import settings as examples
from hypothesis import strategies as st
from safetensors.torch import load_file

from segcal_lite.calibration import nll
from segcal_lite.ensembles import mean_probability
from segcal_lite.training.members import Member, train_members
from segcal_lite.training.on_slices import train_model


def random_probs(n_members, n_classes, n_voxels, seed=0):
    rng = np.random.default_rng(seed)
    probs = rng.dirichlet(np.ones(n_classes), size=(n_members, n_voxels))
    return np.moveaxis(probs, -1, 1).astype(np.float32)


def test_members_train_in_processes_as_they_do_alone(prepared, settings, tmp_path):
    members = [Member(tmp_path / str(seed), settings("dice", seed)) for seed in range(3)]
    lines = []
    assert train_members(members, prepared[2], device="cpu", report=lines.append) == members
    assert all(member.finished for member in members)
    assert sum("validation Dice" in line for line in lines) == 3
    train_model(tmp_path / "alone", prepared[2], settings("dice", 2), "cpu")
    here, there = (load_file(tmp_path / n / "weights.safetensors") for n in ("2", "alone"))
    assert all(torch.equal(here[name], there[name]) for name in here)


def test_any_executor_will_do_and_finished_members_are_used_again(prepared, settings, tmp_path):
    members = [Member(tmp_path / str(seed), settings("ce", seed)) for seed in range(2)]
    train_model(members[0].folder, prepared[2], members[0].settings, "cpu")
    before = (members[0].folder / "weights.safetensors").stat().st_mtime_ns
    lines = []
    with ThreadPoolExecutor(1) as executor:
        train_members(members, prepared[2], executor, "cpu", lines.append)
    assert lines[0] == "1 of 2 models were trained before"
    assert (members[0].folder / "weights.safetensors").stat().st_mtime_ns == before
    assert members[1].finished


def test_a_finished_member_of_other_settings_is_refused(prepared, settings, tmp_path):
    train_model(tmp_path / "0", prepared[2], settings("ce", 0), "cpu")
    with pytest.raises(ValueError, match="n_epochs"):
        members = [Member(tmp_path / "0", settings("ce", 0, n_epochs=9))]
        train_members(members, prepared[2], device="cpu", report=lambda line: None)


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
