"""Mini-batches of one where the inmost map is one voxel: batch normalisation has no variance."""

import pytest
import torch

from segcal_lite.data.tasks import TASKS
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.experiments.profiles import get_profile
from segcal_lite.training.on_slices import SliceTraining, mini_batches, train_model

TINY = {"n_epochs": 1, "n_members": 1, "widths": (2, 2, 2, 2, 2), "batch_size": 2}


def silent(line):
    pass


@pytest.fixture(params=[(16, 16), (16, 16, 16)])
def run(request, discs, tmp_path):
    """Nine training slices, or three volumes, that end in a single voxel; two a mini-batch."""
    options = TINY | {"crop_size": request.param, "cut_foreground": True}
    return open_experiment(tmp_path, discs, device="cpu", report=silent, **options)


def test_the_last_sample_joins_the_mini_batch_before_it(run):
    (member,) = run.members("ce")
    history = train_model(member.folder, run.prepared_folder, member.settings, "cpu")
    assert len(history) == 1 and history.train_loss[0] > 0


def test_a_single_sample_is_refused_in_one_sentence(run):
    (member,) = run.members("ce")
    cases = [case for case in run.cases if case.split != "train"]
    cases.append(next(case for case in run.cases if case.split == "train"))
    if len(member.settings.crop_size) == 3:
        told = (
            "batch_size and training cases: found a mini-batch of 1 at crop_size .*, expected two"
        )
        with pytest.raises(ValueError, match=told):
            SliceTraining(member.folder, cases, member.settings, "cpu")
    else:  # three slices
        assert SliceTraining(member.folder, cases, member.settings, "cpu").advance()


@pytest.mark.parametrize("crop_size", [(16, 16), (16, 16, 16)])
def test_a_batch_size_of_one_is_refused_before_anything_is_made(crop_size):
    task = TASKS["prostate_3d"]
    with pytest.raises(
        ValueError, match="batch_size: found 1, expected at least 2 where crop_size"
    ):
        get_profile("smoke", task, crop_size=crop_size, batch_size=1)
    assert get_profile("smoke", task, crop_size=(16, 16, 32), batch_size=1).batch_size == 1


@pytest.mark.parametrize("n_samples", range(1, 8))
@pytest.mark.parametrize("batch_size", [1, 2, 3])
def test_mini_batches_are_those_of_before_but_for_the_last(n_samples, batch_size):
    order = torch.randperm(n_samples)
    parts = mini_batches(order, batch_size, 2)
    assert torch.equal(torch.cat(parts), order)
    if batch_size > 1 and n_samples > 1:
        assert min(map(len, parts)) > 1
        assert [len(part) for part in parts[:-1]] == [batch_size] * (len(parts) - 1)
    plain = zip(mini_batches(order, batch_size), order.split(batch_size), strict=True)
    assert all(torch.equal(*pair) for pair in plain)
