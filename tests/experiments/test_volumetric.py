"""The same U-Net, training and scores on whole volumes: paper A's 3D appendix."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from data_scripts.phantoms.write import write_phantoms
from segcal_lite.data.prepared import read_prepared
from segcal_lite.data.tasks import TASKS
from segcal_lite.experiments.one_dataset import open_experiment
from segcal_lite.experiments.profiles import get_profile, task_for_profile
from segcal_lite.inference import case_spectrum, mc_dropout_passes, predict_case
from segcal_lite.training.models import load_model
from segcal_lite.training.on_slices import train_model
from segcal_lite.training.slices import load_slices

TINY = {
    "crop_size": (16, 16, 8),
    "widths": (4, 8),
    "n_epochs": 2,
    "n_members": 2,
    "ensemble_sizes": (1,),
    "n_passes": 2,
    "batch_size": 2,
}


def silent(line):
    pass


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    out = tmp_path_factory.mktemp("volumetric")
    task = task_for_profile(TASKS["prostate_3d"], "smoke")
    write_phantoms(out / "phantoms", task, 3, 2, 2, 2, size=(16, 16), n_slices=8)
    data = out / "phantoms"
    return open_experiment(out, data, "prostate_3d", device="cpu", report=silent, **TINY)


@pytest.fixture(scope="module")
def table(run):
    return run.scores(report=silent)


def test_a_sample_is_a_whole_volume(run):
    samples = load_slices(run.cases, "train", n_dims=3)
    assert samples.images.shape == (3, 1, 16, 16, 8)
    assert samples.labels.shape == (3, 16, 16, 8)
    assert samples.case_index.tolist() == [0, 1, 2]
    assert run.cases[0].spacing_mm == (3.0, 3.0, 3.0)


def test_all_methods_are_scored_in_3d(run, table):
    assert {"baseline", "ensemble", "mc_dropout", "oracle"} <= set(table.method)
    assert set(table.loss) == {"ce", "dice"}
    numbers = table[table.metric.isin(["dice", "ece"])].value
    assert numbers.between(0, 1).all()
    folders = {member.folder.parent.name for member in run.members("dice")}
    assert folders == {"unet3d-dice"}


def test_prediction_is_one_pass_over_the_volume(run, table):
    model, settings = load_model(run.members("ce")[0].folder, "cpu")
    case = run.split("test")[0]
    probs = predict_case(model, case.image, "ce")
    with torch.no_grad():
        expected = model(torch.from_numpy(np.array(case.image))[None]).softmax(dim=1)[0]
    np.testing.assert_allclose(probs, expected.numpy(), atol=1e-6)
    assert probs.shape == (2, 16, 16, 8)
    assert settings.crop_size == (16, 16, 8)


def test_dropout_acts_in_3d(run, table):
    model, _ = load_model(run.members("dice", dropout=True)[0].folder, "cpu")
    case = run.split("test")[0]
    one, other = mc_dropout_passes(model, case.image, "dice", n_passes=2)
    assert not np.array_equal(one, other)


def test_the_signature_is_that_of_the_volume(run, table):
    model, _ = load_model(run.members("dice")[0].folder, "cpu")
    sums = case_spectrum(model, run.split("test")[0], "dice")
    assert sums.n_voxels == 16 * 16 * 8
    assert len(sums.singular_values()) == 4


def test_an_interrupted_training_in_3d_ends_with_the_same_bits(run, tmp_path):
    settings = replace(run.members("dice")[0].settings, seed=3)
    train_model(tmp_path / "whole", run.prepared_folder, settings, "cpu")

    def interrupt(row):
        raise KeyboardInterrupt

    for _ in range(2):
        with pytest.raises(KeyboardInterrupt):
            train_model(tmp_path / "parts", run.prepared_folder, settings, "cpu", interrupt)
    train_model(tmp_path / "parts", run.prepared_folder, settings, "cpu")
    whole, parts = ((tmp_path / n / "weights.safetensors").read_bytes() for n in ("whole", "parts"))
    assert whole == parts
    assert read_prepared(run.prepared_folder)


def test_the_papers_grid_and_a_coarser_one_for_short_runs():
    task = TASKS["prostate_3d"]
    assert task.spacing_mm == (1.0, 1.0, 1.0)
    assert get_profile("paper", task).crop_size == (112, 112, 112)
    assert task_for_profile(task, "paper") is task
    assert task_for_profile(task, "smoke").spacing_mm == (3.0, 3.0, 3.0)
    for name in ("smoke", "laptop"):
        coarse, profile = task_for_profile(task, name), get_profile(name, task)
        field_mm = np.multiply(profile.crop_size, coarse.spacing_mm)
        assert (field_mm[:2] == 96).all() and field_mm[2] >= 48
        dilation_mm = coarse.box_dilation_slices * coarse.spacing_mm[2]
        assert abs(dilation_mm - 8) <= coarse.spacing_mm[2] / 2
    heart = TASKS["heart"]
    assert task_for_profile(heart, "smoke") is heart
