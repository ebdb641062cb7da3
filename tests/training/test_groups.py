import gc
import json
import re
import time
import weakref
from dataclasses import replace
from types import SimpleNamespace

import pandas as pd
import pytest
import torch
from safetensors.torch import load_file

from segcal_lite.data.prepared import read_prepared
from segcal_lite.experiments.profiles import get_profile
from segcal_lite.losses import training_loss
from segcal_lite.runs.claims import Claim, claimed
from segcal_lite.training import groups, loop
from segcal_lite.training.checkpoints import is_finished, read_history
from segcal_lite.training.groups import train_group
from segcal_lite.training.members import Member
from segcal_lite.training.on_slices import SliceTraining, train_model


def weights(folder):
    return load_file(folder / "weights.safetensors")


def assert_twins(group, loop):
    found, expected = weights(group), weights(loop)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in found)
    pd.testing.assert_frame_equal(read_history(group), read_history(loop))


def group_of(settings, folder, **options):
    """Two kinds and dropout, of different lengths: three members end after one or two epochs."""
    kinds = [("ce", {}), ("dice", {}), ("ce", {}), ("dice", {"dropout": True}), ("ce", {})]
    members = []
    for seed, (loss, own) in enumerate(kinds):
        chosen = settings(loss, seed, **own)
        members.append(Member(folder / str(seed), replace(chosen, **options)))
    return members


@pytest.mark.parametrize("n_lanes", [1, 2, 4, 9])
def test_every_member_of_a_group_equals_its_twin_trained_alone(
    n_lanes, prepared, settings, tmp_path
):
    early = {"n_epochs": 6, "early_stopping_patience": 1}
    members = group_of(settings, tmp_path / "group", **early)
    assert train_group(members, prepared[2], "cpu", n_lanes) == members
    lengths = set()
    for member in members:
        alone = tmp_path / "alone" / member.folder.name
        lengths.add(len(train_model(alone, prepared[2], member.settings, "cpu")))
        assert_twins(member.folder, alone)
    assert len(lengths) > 1  # some left the group before the others


def test_a_member_that_takes_over_starts_as_a_new_one(prepared, settings, tmp_path, monkeypatch):
    taken = []

    class Watched(SliceTraining):
        def __init__(self, folder, cases, settings, device, before, compiled):
            super().__init__(folder, cases, settings, device, before, compiled)
            taken.append(before)
            if before:
                assert self.model is before.model
                assert all(not t.any() for s in self.optimiser.state.values() for t in s.values())

    monkeypatch.setattr(groups, "SliceTraining", Watched)
    train_group(group_of(settings, tmp_path), prepared[2], "cpu")
    # in one lane: those of one kind follow each other
    assert [before is None for before in taken] == [True, False, False, True, True]


def test_the_memory_of_one_kind_is_free_before_another_takes_its_own(
    prepared, settings, tmp_path, monkeypatch
):
    made, alive = [], []

    class Watched(SliceTraining):
        def __init__(self, *arguments):
            alive.append(sum(training() is not None for training in made))
            super().__init__(*arguments)
            made.append(weakref.ref(self))

    monkeypatch.setattr(groups, "SliceTraining", Watched)
    gc.disable()  # memory of a GPU cannot wait for it
    try:
        train_group(group_of(settings, tmp_path, n_epochs=1), prepared[2], "cpu")
    finally:
        gc.enable()
    assert alive == [0, 1, 1, 0, 0]  # three of one kind, then two that are each of their own
    assert not any(training() for training in made)


def test_a_member_that_another_process_trains_holds_up_nobody(
    prepared, settings, tmp_path, monkeypatch
):
    members, real = group_of(settings, tmp_path, n_epochs=1), SliceTraining.start
    elsewhere, started = Claim(members[0].folder), []

    def start(self):
        started.append(self.folder)
        if len(started) == len(members) - 1:
            elsewhere.release()
        real(self)

    monkeypatch.setattr(SliceTraining, "start", start)
    assert elsewhere.acquire(0)
    train_group(members, prepared[2], "cpu", n_lanes=2)
    assert started[-1] == members[0].folder
    assert all(member.finished for member in members)


def test_a_lane_that_waits_for_another_process_ends_at_its_time(
    prepared, settings, tmp_path, monkeypatch
):
    members, looks = group_of(settings, tmp_path, n_epochs=1)[:2], []

    class Watched(Claim):
        def acquire(self, seconds):
            looks.append(seconds)
            assert len(looks) < 1000, "it waits for ever"
            return super().acquire(seconds / 50)

    monkeypatch.setattr(loop, "Claim", Watched)
    with claimed(members[0].folder):
        train_group(members, prepared[2], "cpu", 2, until=time.monotonic() + 0.2)
    assert [member.finished for member in members] == [False, True]


def test_a_member_named_twice_is_trained_once(prepared, settings, tmp_path):
    member, other = group_of(settings, tmp_path, n_epochs=1)[:2]
    train_group([member, member, other], prepared[2], "cpu", n_lanes=3)
    assert member.finished
    assert other.finished


@pytest.mark.parametrize("n_turns", [1, 3, 7])
def test_an_interrupted_group_goes_on_to_the_same_bits(
    n_turns, prepared, settings, tmp_path, monkeypatch
):
    members = group_of(settings, tmp_path / "group")
    real, turns = SliceTraining.start, []

    def stopped(self):
        turns.append(self.folder)
        if len(turns) > n_turns:
            raise KeyboardInterrupt
        real(self)

    monkeypatch.setattr(SliceTraining, "start", stopped)
    with pytest.raises(KeyboardInterrupt):
        train_group(members, prepared[2], "cpu", 2)
    monkeypatch.setattr(SliceTraining, "start", real)
    train_group(members, prepared[2], "cpu", 3)  # the lock of no folder is held
    for member in members:
        alone = tmp_path / "alone" / member.folder.name
        train_model(alone, prepared[2], member.settings, "cpu")
        assert_twins(member.folder, alone)
        assert not (member.folder / "checkpoint.safetensors").exists()


@pytest.fixture
def spoilt(monkeypatch):
    """Let the weights of some members become NaN in their second epoch."""
    real = SliceTraining.start

    def spoil(*members):
        folders = [member.folder for member in members]

        def start(self):
            if self.folder in folders and self.numbers["history"]:
                with torch.no_grad():
                    next(self.model.parameters()).fill_(torch.nan)
            real(self)

        monkeypatch.setattr(SliceTraining, "start", start)

    return spoil


@pytest.mark.parametrize("n_lanes", [1, 2])
def test_a_member_whose_loss_is_no_number_leaves_and_the_others_go_on(
    n_lanes, prepared, settings, tmp_path, spoilt
):
    members = group_of(settings, tmp_path / "group")
    bad, *good = members
    spoilt(bad)
    told = rf"^training loss in {re.escape(str(bad.folder))}: found nan, expected a finite [^\n]*$"
    with pytest.raises(ValueError, match=told):
        train_group(members, prepared[2], "cpu", n_lanes)
    assert not bad.finished
    for member in good:  # of its kind too, which would have taken over what it had
        alone = tmp_path / "alone" / member.folder.name
        train_model(alone, prepared[2], member.settings, "cpu")
        assert_twins(member.folder, alone)
    spoilt()
    train_group(members, prepared[2], "cpu")  # the lock of its folder is free
    assert bad.finished


def test_each_member_that_left_is_told(prepared, settings, tmp_path, spoilt):
    members = group_of(settings, tmp_path)
    spoilt(*members[:2])
    with pytest.raises(ValueError) as error:
        train_group(members, prepared[2], "cpu", 2)
    lines = str(error.value).splitlines()
    assert sorted(line.partition(": ")[0] for line in lines) == [
        f"training loss in {member.folder}" for member in members[:2]
    ]


def test_an_error_that_is_not_of_one_member_ends_all_and_frees_their_folders(
    prepared, settings, tmp_path, monkeypatch
):
    members = group_of(settings, tmp_path)[:2]
    real = SliceTraining.train_and_evaluate

    def fails(self):
        if self.settings.loss == "dice":
            raise RuntimeError("out of memory")
        return real(self)

    monkeypatch.setattr(SliceTraining, "train_and_evaluate", fails)
    with pytest.raises(RuntimeError, match="out of memory"):
        train_group(members, prepared[2], "cpu", 2)
    assert not any(is_finished(member.folder) for member in members)
    monkeypatch.setattr(SliceTraining, "train_and_evaluate", real)
    train_group(members, prepared[2], "cpu", 2)
    assert all(is_finished(member.folder) for member in members)


def test_bfloat16_trains_near_float32_and_is_used_in_float32(prepared, settings, tmp_path):
    histories = {}
    for precision in ("float32", "bfloat16"):
        chosen = settings("ce", n_epochs=8, early_stopping_patience=8, precision=precision)
        folder = tmp_path / precision
        histories[precision] = train_model(folder, prepared[2], chosen, "cpu")
        assert all(t.dtype in (torch.float32, torch.int64) for t in weights(folder).values())
    first = [history.train_loss[0] for history in histories.values()]
    assert first[0] != first[1]
    assert first[0] == pytest.approx(first[1], rel=0.02)


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_the_loss_of_bfloat16_logits_is_that_of_float32(loss, prepared, settings, tmp_path):
    chosen = settings(loss, precision="bfloat16")
    training = SliceTraining(tmp_path, read_prepared(prepared[2]), chosen, "cpu")
    images, labels = training.training_slices.images, training.training_slices.labels.long()
    with torch.autocast("cpu", torch.bfloat16):
        logits = training.model(images)
    assert logits.dtype == torch.bfloat16
    expected = training_loss(logits.float(), labels, loss, **training.class_weights)
    assert torch.equal(training.loss_of(images, labels, training.class_weights), expected)


def test_settings_without_a_precision_are_of_float32(prepared, settings, tmp_path):
    train_model(tmp_path, prepared[2], settings("ce"), "cpu")
    stored = json.loads((tmp_path / "config.json").read_text())
    del stored["precision"]  # written before there was one
    (tmp_path / "config.json").write_text(json.dumps(stored))
    train_model(tmp_path, prepared[2], settings("ce"), "cpu")
    with pytest.raises(ValueError, match=r"precision = 'float32' \(now 'bfloat16'\)"):
        train_model(tmp_path, prepared[2], settings("ce", precision="bfloat16"), "cpu")


def test_after_its_time_a_group_begins_no_further_member(prepared, settings, tmp_path, monkeypatch):
    members, times = group_of(settings, tmp_path), iter([0, 1])
    monkeypatch.setattr(groups, "time", SimpleNamespace(monotonic=lambda: next(times, 5)))
    train_group(members, prepared[2], "cpu", n_lanes=2, until=3)
    assert sum(member.finished for member in members) == 2
    train_group(members, prepared[2], "cpu")
    assert all(member.finished for member in members)


def test_another_precision_is_refused(prepared, settings):
    for make in (settings, lambda **chosen: get_profile("smoke", prepared[0], **chosen)):
        with pytest.raises(ValueError, match="precision: found 'float16', expected one of"):
            make(precision="float16")
