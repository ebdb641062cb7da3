from concurrent.futures import ThreadPoolExecutor

import pytest
import torch
from safetensors.torch import load_file

from segcal_lite.training import checkpoints, groups
from segcal_lite.training import members as module
from segcal_lite.training.checkpoints import history_so_far
from segcal_lite.training.loop import turns_of_training
from segcal_lite.training.members import Member, train_members
from segcal_lite.training.on_slices import train_model


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


def test_other_settings_are_refused_before_any_member_is_trained(prepared, settings, tmp_path):
    train_model(tmp_path / "1", prepared[2], settings("ce", 1), "cpu")
    members = [Member(tmp_path / str(seed), settings("ce", seed, n_epochs=9)) for seed in (0, 1)]
    with pytest.raises(ValueError, match=r"n_epochs = 3 \(now 9\)"):
        train_members(members, prepared[2], device="cpu", report=lambda line: None)
    assert not members[0].folder.exists()


def test_a_model_that_has_no_epoch_behind_it_is_told_of(prepared, settings, tmp_path, monkeypatch):
    def ask(jobs, before, n_workers, finished, under_way, *place):
        under_way(list(jobs))

    monkeypatch.setattr(module, "run_in_order", ask)
    members = [Member(tmp_path / str(seed), settings("dice", seed)) for seed in range(2)]
    lines = []
    train_members(members, prepared[2], device="cpu", report=lines.append)
    assert lines[1:] == ["  dice, seed 0: under way", "  dice, seed 1: under way"]


def test_finished_members_are_read_and_not_trained(prepared, settings, tmp_path, monkeypatch):
    members = [Member(tmp_path / str(seed), settings("ce", seed)) for seed in range(2)]
    trained = []

    def count(folder, *others, **options):
        trained.append(folder)
        return turns_of_training(folder, *others, **options)

    monkeypatch.setattr(groups, "turns_of_training", count)
    for _ in range(2):
        with ThreadPoolExecutor(1) as executor:
            train_members(members, prepared[2], executor, "cpu", lambda line: None)
    assert trained == [member.folder for member in members]


def test_a_training_that_ends_while_one_asks_how_far_it_is_has_no_rows_yet(tmp_path, monkeypatch):
    (tmp_path / "state.json").write_text('{"history": [{"epoch": 0}]}')
    assert history_so_far(tmp_path) == [{"epoch": 0}]

    def ends(folder):
        (tmp_path / "state.json").unlink()
        return False  # it was not when it was asked

    monkeypatch.setattr(checkpoints, "is_finished", ends)
    assert history_so_far(tmp_path) == []
