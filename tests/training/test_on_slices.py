import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import asdict, replace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import REGIONS
from safetensors.torch import load_file

from segcal_lite.data.prepared import read_prepared
from segcal_lite.losses import training_loss
from segcal_lite.runs.folders import read_json, write_json
from segcal_lite.training.checkpoints import read_history
from segcal_lite.training.models import TrainingSettings, build_model, load_model
from segcal_lite.training.on_slices import (
    SliceTraining,
    augment_slices,
    mean_dice,
    train_model,
    validation_counts,
    validation_dice,
)
from segcal_lite.training.slices import load_slices

TRAIN_IN_A_PROCESS = """
import json, sys
from pathlib import Path
from segcal_lite.training.on_slices import train_model
from segcal_lite.training.models import TrainingSettings
folder, prepared, settings = Path(sys.argv[1]), sys.argv[2], json.loads(sys.argv[3])
train_model(folder, prepared, TrainingSettings(**settings), "cpu")
"""


def same_bits(folder_a, folder_b):
    a, b = (load_file(folder / "weights.safetensors") for folder in (folder_a, folder_b))
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_a_model_learns_and_leaves_the_files_of_a_finished_run(prepared, settings, tmp_path):
    rows = []
    chosen = settings("ce", n_epochs=25, early_stopping_patience=25)
    history = train_model(tmp_path / "0", prepared[2], chosen, "cpu", rows.append)
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == [
        "config.json",
        "history.csv",
        "weights.safetensors",
    ]
    assert len(rows) == len(history) == 25
    assert history.validation_dice.max() > 0.8
    pd.testing.assert_frame_equal(history, pd.DataFrame(rows))


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_same_seed_same_bits_other_seed_others(loss, prepared, settings, tmp_path):
    for name, seed in (("a", 1), ("b", 1), ("c", 2)):
        torch.rand(3)  # the state outside does not matter
        chosen = settings(loss, seed, dropout=True, augment=True)
        train_model(tmp_path / name, prepared[2], chosen, "cpu")
    assert same_bits(tmp_path / "a", tmp_path / "b")
    assert not same_bits(tmp_path / "a", tmp_path / "c")


@pytest.mark.slow
def test_a_killed_run_ends_as_the_whole_one(prepared, settings, tmp_path):
    chosen = settings("ce", dropout=True, n_epochs=8, plateau_patience=2)
    train_model(tmp_path / "whole", prepared[2], chosen, "cpu")
    killed = tmp_path / "killed"
    write_json(tmp_path / "settings.json", asdict(chosen))
    command = [sys.executable, "-c", TRAIN_IN_A_PROCESS, str(killed), str(prepared[2])]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, (tmp_path / "settings.json").read_text()], env=environment
    )
    while not (killed / "checkpoint.safetensors").exists():
        assert process.poll() is None, "the run ended before it could be killed"
        time.sleep(0.005)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (killed / "weights.safetensors").exists()
    epochs = []
    train_model(killed, prepared[2], chosen, "cpu", lambda row: epochs.append(row["epoch"]))
    assert 0 < epochs[0] < 8  # it went on where it was
    assert same_bits(tmp_path / "whole", killed)
    histories = [read_history(tmp_path / name) for name in ("whole", "killed")]
    pd.testing.assert_frame_equal(*histories)


def test_every_interruption_between_epochs_gives_the_same_bits(prepared, settings, tmp_path):
    chosen = settings("dice", dropout=True, n_epochs=5, plateau_patience=1, plateau_gain=1.0)
    train_model(tmp_path / "whole", prepared[2], chosen, "cpu")

    def interrupt(row):
        raise KeyboardInterrupt

    for _ in range(5):
        with pytest.raises(KeyboardInterrupt):
            train_model(tmp_path / "parts", prepared[2], chosen, "cpu", interrupt)
    history = train_model(tmp_path / "parts", prepared[2], chosen, "cpu", interrupt)
    assert history.learning_rate.nunique() > 2  # the schedule went on too
    assert same_bits(tmp_path / "whole", tmp_path / "parts")


def test_a_finished_model_is_never_trained_twice(prepared, settings, tmp_path):
    train_model(tmp_path, prepared[2], settings(), "cpu")
    before = (tmp_path / "weights.safetensors").stat().st_mtime_ns

    def fail(row):
        raise AssertionError("an epoch was trained")

    train_model(tmp_path, prepared[2], settings(), "cpu", fail)
    assert (tmp_path / "weights.safetensors").stat().st_mtime_ns == before


def test_other_settings_are_refused_naming_the_fields(prepared, settings, tmp_path):
    train_model(tmp_path, prepared[2], settings(n_epochs=1), "cpu")
    with pytest.raises(ValueError, match=r"n_epochs = 1 \(now 2\).*seed = 0 \(now 5\)"):
        train_model(tmp_path, prepared[2], settings(n_epochs=2, seed=5), "cpu")


def test_settings_are_known_by_their_names_in_any_order(prepared, settings, tmp_path):
    train_model(tmp_path, prepared[2], settings(), "cpu")
    stored = read_json(tmp_path / "config.json")
    write_json(tmp_path / "config.json", dict(reversed(stored.items())))
    assert load_model(tmp_path, "cpu")[1] == settings()
    train_model(tmp_path, prepared[2], settings(), "cpu")  # not refused


def test_the_best_validation_dice_is_what_is_kept(prepared, settings, tmp_path):
    chosen = settings(n_epochs=6, learning_rate=0.05)
    history = train_model(tmp_path, prepared[2], chosen, "cpu")
    model = build_model(chosen)
    model.load_state_dict(load_file(tmp_path / "weights.safetensors"))
    validation = load_slices(read_prepared(prepared[2]), "validation")
    best = validation_dice(model, validation, chosen)
    assert best == pytest.approx(history.validation_dice.max(), abs=1e-6)


def test_early_stopping_waits_as_many_epochs_as_it_is_told(prepared, settings, tmp_path):
    run = SliceTraining(
        tmp_path,
        read_prepared(prepared[2]),
        settings(n_epochs=100, early_stopping_patience=3),
        torch.device("cpu"),
    )
    for dice, finished in ((0.1, False), (0.5, False), (0.4, False), (0.5, False), (0.3, True)):
        run.numbers["history"].append({"validation_dice": dice})
        assert run.finished is finished


def test_the_rate_falls_when_dice_has_not_gained_enough(prepared, settings, tmp_path):
    chosen = settings(plateau_patience=2, plateau_gain=0.01, plateau_factor=0.5, learning_rate=1.0)
    run = SliceTraining(tmp_path, read_prepared(prepared[2]), chosen, torch.device("cpu"))
    rates = []
    for dice in (0.5, 0.505, 0.509, 0.6, 0.6, 0.6, 0.6, 0.6):
        run.judge({"validation_dice": dice})
        rates.append(run.optimiser.param_groups[0]["lr"])
    assert rates == [1, 1, 0.5, 0.5, 0.5, 0.25, 0.25, 0.125]


def test_validation_dice_is_by_volume_and_segment(prepared, settings):
    validation = load_slices(read_prepared(prepared[2]), "validation")

    class Oracle(torch.nn.Module):
        def forward(self, images):  # right but for segment 2 in the first volume
            index = int(self.start)
            labels = validation.labels[index : index + len(images)].long().clone()
            cases = validation.case_index[index : index + len(images)]
            labels[(cases == 0).view(-1, 1, 1) & (labels == 2)] = 0
            self.start = index + len(images)
            return torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()[:, 1:] * 20 - 10

    model = Oracle()
    model.start = 0
    # volume 1: segments 1 and 0; volume 2: 1 and 1
    assert validation_dice(model, validation, settings("dice")) == pytest.approx(0.75)


def test_a_loss_that_is_not_finite_ends_in_one_sentence(prepared, settings, tmp_path):
    with pytest.raises(ValueError, match=r"training loss in .*expected a finite number"):
        train_model(tmp_path, prepared[2], settings("ce", learning_rate=1e30), "cpu")
    assert not (tmp_path / "weights.safetensors").exists()


def test_a_split_without_a_case_is_refused(prepared):
    cases = [case for case in read_prepared(prepared[2]) if case.split != "validation"]
    with pytest.raises(ValueError, match="no case in split 'validation'"):
        load_slices(cases, "validation")


def test_ce_weights_come_from_training_and_validation_together(prepared, settings, tmp_path):
    cases = read_prepared(prepared[2])
    run = SliceTraining(tmp_path, cases, settings("ce"), torch.device("cpu"))
    used = [case for case in cases if case.split != "test"]
    labels = np.concatenate([np.ravel(case.labels) for case in used])
    expected = labels.size / (3 * np.bincount(labels))
    assert np.allclose(run.class_weights["ce_weights"], expected)


def hide_left_half(name, labels):
    """Nobody annotated the left half."""
    labels = labels.copy()
    labels[: labels.shape[0] // 2] = -1
    return labels


class Fixed(torch.nn.Module):
    """A network that knows the labels it was given, and predicts them with certainty."""

    def __init__(self, labels, n_outputs, batch_size):
        super().__init__()
        one_hot = torch.nn.functional.one_hot(labels.long(), n_outputs).movedim(-1, 1)
        self.batches = iter((one_hot * 20.0 - 10).split(batch_size))

    def forward(self, images):
        return next(self.batches)


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_unannotated_pixels_train_nothing(loss, altered, settings, tmp_path):
    """What lies under them in the truth does not matter to the weights; what lies beside does."""
    folder = altered(hide_left_half)
    train_model(tmp_path / "a", folder, settings(loss, augment=True), "cpu")
    slices = load_slices(read_prepared(folder), "train")
    assert (slices.labels == -1).float().mean() == 0.5
    run = SliceTraining(tmp_path / "b", read_prepared(folder), settings(loss), torch.device("cpu"))
    run.model.train()
    with torch.no_grad():
        logits = run.model(slices.images[:4])
    labels = slices.labels[:4].long()
    found = training_loss(logits, labels, loss, **run.class_weights)
    right = logits[:, :, 16:], labels[:, 16:]
    assert float(found) == pytest.approx(float(training_loss(*right, loss, **run.class_weights)))


def test_unannotated_pixels_are_in_no_class_weight(altered, settings, tmp_path):
    cases = read_prepared(altered(hide_left_half))
    run = SliceTraining(tmp_path, cases, settings("ce"), torch.device("cpu"))
    labels = np.concatenate([case.labels.ravel() for case in cases if case.split != "test"])
    labels = labels[labels >= 0]
    expected = labels.size / (3 * np.bincount(labels))
    assert np.allclose(run.class_weights["ce_weights"], expected)


def test_unannotated_pixels_are_in_no_validation_dice(altered, prepared, settings):
    whole = load_slices(read_prepared(prepared[2]), "validation")
    half = load_slices(read_prepared(altered(hide_left_half)), "validation")
    wrong = whole.labels.clone()
    wrong[:, :16] = 1  # where nobody looks
    model = Fixed(wrong, 3, settings().batch_size)
    assert validation_dice(model, half, settings("ce")) == 1
    model = Fixed(wrong, 3, settings().batch_size)
    assert validation_dice(model, whole, settings("ce")) < 0.8


def test_a_label_that_is_no_class_is_refused_before_training(altered, settings, tmp_path):
    for value in (3, -2):
        folder = altered(lambda name, labels, value=value: np.where(labels == 2, value, labels))
        with pytest.raises(ValueError, match="labels: found values from .*, expected -1 to 2"):
            train_model(tmp_path / "model", folder, settings("dice"), "cpu")
        assert not list((tmp_path / "model").glob("*.safetensors"))
        shutil.rmtree(folder)


def test_cases_without_foreground_train_and_count_as_found(altered, settings, tmp_path):
    empty = {"disc0", "disc4"}  # of training and of validation
    folder = altered(lambda name, labels: labels * (name not in empty))
    for loss in ("ce", "dice"):
        history = train_model(tmp_path / loss, folder, settings(loss), "cpu")
        assert np.isfinite(history.train_loss).all()
    validation = load_slices(read_prepared(folder), "validation")
    nothing = Fixed(torch.zeros_like(validation.labels), 3, settings().batch_size)
    assert validation_dice(nothing, validation, settings("ce")) == 0.5  # disc3: 0, disc4: 1
    nothing = Fixed(torch.zeros_like(validation.labels), 3, settings().batch_size)
    counts = validation_counts(nothing, validation, settings("ce"))
    assert mean_dice(counts, of_present=True) == 0
    assert np.isnan(mean_dice(counts[:, 1:], of_present=True))  # of disc4 alone
    of_disc4 = 2 * history.validation_dice - history.validation_dice_present
    assert np.isclose(of_disc4, of_disc4.round()).all()  # 1 in silence, else 0


def test_validation_cases_without_any_foreground_are_refused(altered, settings, tmp_path):
    """Else the first silent epoch would be the best one."""
    empty = {"disc3", "disc4"}  # all validation cases
    folder = altered(lambda name, labels: labels * (name not in empty))
    with pytest.raises(ValueError, match="^validation cases: found no foreground, expected some"):
        train_model(tmp_path / "model", folder, settings("dice"), "cpu")
    assert not list((tmp_path / "model").glob("*.safetensors"))


def region_settings(settings, loss, **changes):
    """Settings of the overlapping regions in the discs."""
    regions = {name: REGIONS[name] for name in ("regions", "dice_weights")}
    return replace(settings(loss, **changes), n_classes=2, **regions)


def test_settings_take_the_regions_from_the_task(prepared, settings):
    task, profile, _, data = prepared
    task = replace(task, **REGIONS)
    gathered = TrainingSettings.gather(task, profile, data, "ce", 0)
    assert (gathered.n_classes, gathered.regions) == (2, REGIONS["regions"])
    assert build_model(gathered).output.out_channels == 2


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_one_epoch_of_regions_is_the_binary_loss_by_hand(loss, altered, settings, tmp_path):
    folder = altered(lambda name, labels: labels, regions=REGIONS["regions"])
    chosen = region_settings(settings, loss, n_epochs=1, batch_size=64)
    history = train_model(tmp_path, folder, chosen, "cpu")
    cases = read_prepared(folder)
    labels = {
        split: np.concatenate(
            [np.moveaxis(case.labels, -1, 0) for case in cases if case.split == split]
        )
        for split in ("train", "validation")
    }
    truth = {split: np.stack([part >= 1, part == 2], axis=1) for split, part in labels.items()}
    images = load_slices(cases, "train").images
    with torch.no_grad():
        probs = torch.sigmoid(build_model(chosen).train()(images)).double().numpy()
    expected, y = 0.0, truth["train"]
    if loss != "dice":
        both = np.concatenate([truth["train"], truth["validation"]])
        inside = both.mean(axis=(0, 2, 3))[:, None, None]
        weights = np.where(y, 1 / (2 * inside), 1 / (2 * (1 - inside)))
        expected += torch.nn.functional.binary_cross_entropy(
            *(torch.from_numpy(array) for array in (probs, y.astype(float), weights))
        ).item()
    if loss != "ce":
        over = (0, 2, 3)
        dice = 2 * (probs * y).sum(over) / ((probs + y).sum(over) + chosen.dice_epsilon)
        expected -= (dice * [0.25, 0.75]).sum()
    assert history.train_loss[0] == pytest.approx(expected, rel=1e-5)
    assert history.validation_dice.between(0, 1).all()


def test_validation_dice_of_regions_is_that_of_each(altered, settings):
    folder = altered(lambda name, labels: labels, regions=REGIONS["regions"])
    validation = load_slices(read_prepared(folder), "validation")
    assert validation.labels.shape == (6, 2, 32, 32)

    class Half(torch.nn.Module):
        def forward(self, images):  # the disc is right, of the core only volume 1
            start = self.start
            self.start += len(images)
            labels = validation.labels[start : self.start].float()
            labels[validation.case_index[start : self.start] == 1, 1] = 0
            return labels * 20 - 10

    model = Half()
    model.start = 0
    assert validation_dice(model, validation, region_settings(settings, "ce")) == 0.75


def test_volumes_are_flipped_and_turned_in_plane_and_their_labels_alike():
    volume = torch.arange(4 * 4 * 4.0).reshape(1, 1, 4, 4, 4)
    poses = set()
    for _ in range(100):
        images, labels = augment_slices(volume, volume[:, 0], noise=0.0)
        assert torch.equal(images[:, 0], labels)
        below = labels[0, ..., 0].flatten()
        assert torch.equal(labels[0].reshape(16, 4), below[:, None] + torch.arange(4))
        poses.add(tuple(below.tolist()))
    assert len(poses) == 8  # of a square
