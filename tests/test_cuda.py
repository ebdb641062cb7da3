"""What runs on a GPU gives what the CPU gives, to the rounding of float32. Skipped without one."""

import shutil
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from segcal_lite.data.prepared import read_prepared
from segcal_lite.ensembles import SweepSums, selection_matrix
from segcal_lite.experiments.case_scores import Scoring, fit_member_scalings, score_cases
from segcal_lite.inference import case_signatures, mc_dropout_passes, predict_case
from segcal_lite.runs.folders import model_folder
from segcal_lite.runs.tables import read_table
from segcal_lite.sliding_window import predict_volume, predict_with_features
from segcal_lite.training import loop, on_slices
from segcal_lite.training.checkpoints import read_history
from segcal_lite.training.groups import train_group
from segcal_lite.training.members import Member
from segcal_lite.training.models import build_model, load_model
from segcal_lite.training.on_blocks import train_on_blocks
from segcal_lite.training.on_slices import SliceTraining, train_model
from segcal_lite.training.plans import joint
from segcal_lite.unet import ResidualUNet

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
ROUNDING = {"rtol": 2e-3, "atol": 2e-4}  # of some ten steps in float32, in another order of sums


@pytest.fixture(autouse=True)
def whole_float32(monkeypatch):
    """Convolutions without TF32, whose products are rounded to ten bits."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture
def eager(monkeypatch):
    """Return a trainer without recording: kernels are handed in one by one."""

    def train(folder, prepared_folder, settings):
        with monkeypatch.context() as patch:
            patch.setattr(on_slices, "can_be_recorded", lambda *others: False)
            return train_model(folder, prepared_folder, settings, "cuda")

    return train


def assert_near(found, expected):
    found, expected = (load_file(folder / "weights.safetensors") for folder in (found, expected))
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_allclose(found[name], expected[name], **ROUNDING, err_msg=name)


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_recorded_epochs_train_as_steps_do_and_as_the_cpu_does(
    loss, prepared, settings, tmp_path, eager
):
    chosen = settings(loss, n_epochs=4, early_stopping_patience=4, learning_rate=0.001)
    on_cpu = train_model(tmp_path / "cpu", prepared[2], chosen, "cpu")
    stepped = eager(tmp_path / "stepped", prepared[2], chosen)
    recorded = train_model(tmp_path / "recorded", prepared[2], chosen, "cuda")
    for history in (stepped, recorded):
        np.testing.assert_allclose(history.train_loss, on_cpu.train_loss, rtol=1e-3)
        np.testing.assert_allclose(history.validation_dice, on_cpu.validation_dice, atol=0.02)
    assert_near(tmp_path / "recorded", tmp_path / "stepped")


def test_members_of_a_group_do_not_disturb_each_other(prepared, settings, tmp_path):
    options = {"n_epochs": 4, "early_stopping_patience": 4, "learning_rate": 0.001}
    members = [
        Member(tmp_path / f"{loss}{seed}", settings(loss, seed, **options))
        for seed in range(3)
        for loss in ("ce", "dice")
    ]
    train_group(members, prepared[2], "cuda", n_lanes=3)
    for member in members:
        alone = tmp_path / "alone" / member.folder.name
        history = train_model(alone, prepared[2], member.settings, "cuda")
        pd.testing.assert_series_equal(
            read_history(member.folder).train_loss, history.train_loss, rtol=1e-3
        )
        assert_near(member.folder, alone)


def test_the_learning_rate_falls_inside_a_recording(prepared, settings, tmp_path, eager):
    falling = {"n_epochs": 6, "plateau_patience": 1, "plateau_gain": 2.0, "plateau_factor": 0.1}
    chosen = settings("ce", **falling, early_stopping_patience=6, learning_rate=0.001)
    recorded = train_model(tmp_path / "recorded", prepared[2], chosen, "cuda")
    stepped = eager(tmp_path / "stepped", prepared[2], chosen)
    assert recorded.learning_rate.nunique() > 3
    np.testing.assert_allclose(recorded.learning_rate, stepped.learning_rate)
    np.testing.assert_allclose(recorded.train_loss, stepped.train_loss, rtol=1e-3)


@pytest.mark.parametrize("dropout", [False, True])
def test_an_interrupted_training_goes_on_as_a_whole_one(
    dropout, prepared, settings, tmp_path, monkeypatch
):
    monkeypatch.setitem(loop.SECONDS_BETWEEN_CHECKPOINTS, "cuda", 0)
    options = {"n_epochs": 6, "early_stopping_patience": 6, "learning_rate": 0.001}
    chosen = settings("dice", dropout=dropout, **options)
    whole = train_model(tmp_path / "whole", prepared[2], chosen, "cuda")

    def interrupt(row):
        if row["epoch"] == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        train_model(tmp_path / "parts", prepared[2], chosen, "cuda", interrupt)
    parts = train_model(tmp_path / "parts", prepared[2], chosen, "cuda")
    np.testing.assert_allclose(parts.train_loss, whole.train_loss, rtol=1e-3)
    assert_near(tmp_path / "parts", tmp_path / "whole")


def test_masks_of_dropout_differ_from_epoch_to_epoch(prepared, settings, tmp_path):
    still = settings("ce", dropout=True, n_epochs=3, learning_rate=1e-12)
    run = SliceTraining(tmp_path, read_prepared(prepared[2]), still, torch.device("cuda"))
    losses = [run.train_and_evaluate()["train_loss"] for _ in range(3)]
    run.numbers["history"] = [{}]  # the seed is of the epoch: another epoch, another mask
    losses.append(run.train_and_evaluate()["train_loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)  # the same epoch, the same masks
    assert losses[3] != pytest.approx(losses[0], rel=1e-5)


@pytest.mark.parametrize("loss", ["ce", "dice"])
def test_bfloat16_and_compiling_stay_near_float32(loss, prepared, settings, tmp_path):
    options = {"n_epochs": 4, "early_stopping_patience": 4, "learning_rate": 0.001}
    plain = train_model(tmp_path / "a", prepared[2], settings(loss, **options), "cuda")
    half = settings(loss, precision="bfloat16", **options)
    member = Member(tmp_path / "b", half)
    train_group([member], prepared[2], "cuda", compiled=True)
    found = read_history(member.folder)
    np.testing.assert_allclose(found.train_loss, plain.train_loss, rtol=0.05)


@pytest.fixture
def trained(prepared, settings, tmp_path):
    """Three models: two members and one with dropout, in the folders of a run."""
    folders = {}
    for dropout in (False, True):
        folders[dropout] = []
        for seed in range(1 if dropout else 2):
            chosen = settings("dice", seed, dropout)
            folder = model_folder(tmp_path, "unet2d", "dice", seed, chosen.dropout)
            train_model(folder, prepared[2], chosen, "cpu")
            folders[dropout].append(folder)
    return SimpleNamespace(out=tmp_path, members=folders[False], dropout=folders[True])


def test_a_case_is_predicted_as_on_the_cpu(prepared, trained):
    case = read_prepared(prepared[2])[-1]
    probs = [
        predict_case(load_model(trained.members[0], device)[0], case.image, "dice")
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(*probs, atol=1e-5)
    signatures = [
        case_signatures(load_model(trained.members[0], device)[0], [case], "dice")
        for device in ("cpu", "cuda")
    ]
    np.testing.assert_allclose(*signatures, atol=1e-4)


def test_passes_with_dropout_differ_and_have_the_mean_of_the_cpu(prepared, trained):
    case = read_prepared(prepared[2])[-1]
    means = []
    for device in ("cpu", "cuda"):
        model, _ = load_model(trained.dropout[0], device)
        passes = np.stack(list(mc_dropout_passes(model, case.image, "dice", 200)))
        assert not np.array_equal(passes[0], passes[1])
        means.append(passes.mean(axis=0))
        again = next(iter(mc_dropout_passes(model, case.image, "dice", 1)))
        np.testing.assert_allclose(again, passes[0], atol=1e-5)  # the seed decides
    assert np.abs(means[0] - means[1]).mean() < 0.02


def test_the_sweep_is_computed_where_its_selection_lies():
    rng = np.random.default_rng(0)
    probs = np.moveaxis(rng.dirichlet(np.full(4, 0.3), (20, 10_000)), -1, 1).astype(np.float32)
    probs[1:, :, :5000] = probs[0, :, :5000]  # where all agree
    labels = rng.integers(0, 4, 10_000).astype(np.uint8)
    selection = np.concatenate([selection_matrix(20, m, 30) for m in (1, 5, 10)])
    found = []
    for chosen in (selection, torch.from_numpy(selection).to("cuda")):
        sums = SweepSums(chosen, 4, n_missed=[5, 0, 7])
        for part in np.array_split(np.arange(10_000), 3):
            sums.update(labels[part], probs[..., part])
        found.append((*sums.result(), sums.brier()))
    assert sums.error_products.device.type == "cuda"
    for on_cpu, on_cuda, rtol in zip(*found, (1e-6, 1e-3, 1e-6), strict=True):
        np.testing.assert_allclose(on_cuda, on_cpu, rtol=rtol)  # of Dice: ties that rounding breaks
    probs[0, 0, -1] = np.nan
    with pytest.raises(ValueError, match="probs"):
        sums.update(labels, probs)


def test_scores_are_those_of_the_cpu(prepared, trained):
    tables = []
    for device in ("cpu", "cuda"):
        scoring = Scoring(
            out=trained.out,
            loss="dice",
            members=tuple(trained.members),
            dropout_members=(),
            segments=prepared[0].segments,
            ensemble_sizes=(1, 2),
            n_resamples=2,
            n_passes=2,
            n_bins=10,
            seed=0,
        )
        for member in scoring.members:
            fit_member_scalings(member, prepared[2], device)
        score_cases(scoring, prepared[2], ["disc5"], device)
        table = read_table(scoring.folder / "disc5.csv", sealed=True)
        tables.append(table[table.method.isin(["baseline", "ensemble", "temperature", "sweep"])])
        shutil.rmtree(scoring.folder)  # the other device scores anew
    on_cpu, on_cuda = tables
    for metric in ("nll", "brier", "dice", "segment_entropy"):
        found, expected = (t[t.metric == metric].value.to_numpy() for t in (on_cuda, on_cpu))
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-4, err_msg=metric)


@torch.no_grad()
def test_the_sliding_window_gives_what_it_gives_on_the_cpu():
    torch.manual_seed(0)
    model = ResidualUNet(1, 1, n_features=4, n_stages=4).eval()
    image = np.random.default_rng(0).normal(size=(1, 40, 36, 33)).astype(np.float32)
    probs, features = {}, {}
    for device in ("cpu", "cuda"):
        model, blocks = model.to(device), []
        probs[device] = predict_with_features(
            model,
            {"last": model.last_features},
            image,
            "dice",
            lambda name, place, maps, blocks=blocks: blocks.append(maps),
            (16, 16, 16),
            4,
        )
        features[device] = np.concatenate([maps.ravel() for maps in blocks])
        again = predict_volume(model, image, "dice", (16, 16, 16), 4)
        np.testing.assert_allclose(probs[device], again, atol=1e-5)
    np.testing.assert_allclose(probs["cuda"], probs["cpu"], atol=1e-4)
    np.testing.assert_allclose(features["cuda"], features["cpu"], atol=1e-3)


def test_blocks_are_trained_as_on_the_cpu(volumes, tmp_path):
    chosen = replace(volumes.settings(joint("liver_ct", "atrium")), learning_rate=0.001)
    histories = [
        train_on_blocks(tmp_path / device, volumes.sets, chosen, device=device)
        for device in ("cpu", "cuda")
    ]
    losses = [history.validation_loss.to_numpy()[:2] for history in histories]
    np.testing.assert_allclose(*losses, rtol=0.05)


def test_a_network_on_the_gpu_is_as_the_seed_says(settings):
    on_cpu, on_cuda = build_model(settings("ce")), build_model(settings("ce")).to("cuda")
    for one, other in zip(on_cpu.parameters(), on_cuda.parameters(), strict=True):
        assert torch.equal(one, other.cpu())
