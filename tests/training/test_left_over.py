"""What a kill leaves behind weights, and weights that another user has made."""

import errno
import os
from pathlib import Path

import pytest

from segcal_lite.training.members import Member, train_members
from segcal_lite.training.models import load_model
from segcal_lite.training.on_slices import train_model


def test_what_a_kill_left_behind_finished_weights_is_swept(prepared, settings, tmp_path):
    members = [Member(tmp_path / str(seed), settings("ce", seed, n_epochs=1)) for seed in range(2)]
    for member in members:
        train_model(member.folder, prepared[2], member.settings, "cpu")
    names = sorted(path.name for path in members[0].folder.iterdir())
    for name in ("checkpoint.safetensors", "state.json"):
        (members[0].folder / name).write_text("{}")
    train_members(members, prepared[2], device="cpu", report=lambda line: None)
    assert sorted(path.name for path in members[0].folder.iterdir()) == names


def test_what_a_kill_left_half_written_is_swept_by_the_next_training(prepared, settings, tmp_path):
    (tmp_path / ".partial-0abc-1-weights.safetensors").touch()
    train_model(tmp_path, prepared[2], settings("ce", n_epochs=1), "cpu")
    assert not list(tmp_path.glob(".partial*"))


@pytest.mark.skipif(os.name == "nt", reason="modes of POSIX")
def test_all_may_read_weights_who_may_read_the_rest(prepared, settings, tmp_path):
    train_model(tmp_path, prepared[2], settings("ce", n_epochs=1), "cpu")
    names = ("weights.safetensors", "config.json", "history.csv")
    assert len({(tmp_path / name).stat().st_mode for name in names}) == 1


def test_a_finished_model_of_another_user_is_used(prepared, settings, tmp_path, monkeypatch):
    member = Member(tmp_path, settings("ce", n_epochs=1))
    train_model(tmp_path, prepared[2], member.settings, "cpu")
    (tmp_path / "state.json").touch()

    def refuse(path, *arguments, **options):
        if not path.is_dir():
            raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(os, "access", lambda path, mode: False)
    for name in ("write_text", "unlink", "mkdir"):
        monkeypatch.setattr(Path, name, refuse)
    train_members([member], prepared[2], device="cpu", report=lambda line: None)
    assert len(train_model(tmp_path, prepared[2], member.settings, "cpu")) == 1
    assert load_model(tmp_path, "cpu")
