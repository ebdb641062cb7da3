"""Whose commit a result is of: this code's own, whatever repository lies around or in force."""

import os
import subprocess

import pytest

from segcal_lite.runs import folders, provenance


def git(folder, *arguments):
    who = ["-c", "user.name=a", "-c", "user.email=a@example.org"]
    alone = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    command = ["git", "-C", folder, *who, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=True, env=alone)
    return done.stdout.strip()


def repository(folder):
    """Make a repository with one commit; return how git describes that."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "pyproject.toml").write_text(f"# {folder}\n")
    git(folder, "init", "-q")
    git(folder, "add", ".")
    git(folder, "commit", "-qm", "first")
    return git(folder, "describe", "--always", "--abbrev=12")


@pytest.fixture
def installed_in(monkeypatch):
    """Let the code lie in a folder; return what the provenance says."""

    def commit(folder):
        code = folder / "segcal_lite" / "runs" / "provenance.py"
        monkeypatch.setattr(provenance, "__file__", str(code))
        return provenance.provenance()["commit"]

    return commit


def test_provenance_says_commit_and_hardware():
    record = provenance.provenance()
    assert set(record) == {"date", "commit", "python", "torch", "device", "processor"}
    assert all(record.values())
    assert f"{os.cpu_count()} cores" in record["processor"]


def test_its_own_checkout_from_any_folder(installed_in, tmp_path, monkeypatch):
    own, other = repository(tmp_path / "own"), repository(tmp_path / "other")
    monkeypatch.chdir(tmp_path / "other")
    assert own != other
    assert installed_in(tmp_path / "own") == own
    (tmp_path / "own" / "pyproject.toml").write_text("changed")
    assert installed_in(tmp_path / "own") == f"{own}-dirty"


def test_what_the_code_writes_does_not_change_it(installed_in, tmp_path):
    names = "results/a.csv", "results/README.md", "README.md"
    files = [tmp_path / "own" / name for name in names]
    for file in files:
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text("1")
    own = repository(tmp_path / "own")
    for file in files:
        file.write_text("2")
    assert installed_in(tmp_path / "own") == own
    (tmp_path / "own" / "new.py").touch()  # nor what git does not know
    assert installed_in(tmp_path / "own") == own
    git(tmp_path / "own", "rm", "-q", "pyproject.toml")
    (tmp_path / "own" / "pyproject.toml").touch()
    assert installed_in(tmp_path / "own") == f"{own}-dirty"


def test_a_repository_in_force_is_not_asked(installed_in, tmp_path, monkeypatch):
    """As in a hook, where git sets these."""
    own, _ = repository(tmp_path / "own"), repository(tmp_path / "other")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other" / ".git"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "other" / ".git" / "index"))
    assert installed_in(tmp_path / "own") == own


@pytest.mark.parametrize("has_project", [True, False])
def test_a_repository_around_is_not_asked_nor_its_settings_run(has_project, installed_in, tmp_path):
    """The package unpacked, or installed, in a folder of somebody's own repository."""
    repository(tmp_path)
    spy = tmp_path / "spy"
    spy.write_text(f"#!/bin/sh\ntouch {tmp_path}/was_run\n")
    spy.chmod(0o755)
    git(tmp_path, "config", "core.fsmonitor", str(spy))
    folder = tmp_path / "lib" / "site-packages"
    folder.mkdir(parents=True)
    if has_project:
        (folder / "pyproject.toml").touch()
    (tmp_path / "was_run").unlink(missing_ok=True)
    assert installed_in(folder) == "no git checkout"
    assert not (tmp_path / "was_run").exists()


def test_without_a_checkout_the_current_folders_repository_is_not_asked(
    installed_in, tmp_path, monkeypatch
):
    repository(tmp_path / "mine")
    monkeypatch.chdir(tmp_path / "mine")
    assert installed_in(tmp_path / "site-packages") == "no git checkout"


def test_without_git_there_is_no_commit(installed_in, tmp_path, monkeypatch):
    repository(tmp_path / "own")
    monkeypatch.setenv("PATH", "")
    assert installed_in(tmp_path / "own") == "no git checkout"


def test_data_in_the_project_are_called_by_their_place_in_it(installed_in, tmp_path, monkeypatch):
    """The command line hands on absolute paths, and notebooks relative ones: it is the same run."""
    repository(tmp_path / "own")
    installed_in(tmp_path / "own")
    data = tmp_path / "own" / "data" / "ACDC"
    assert folders.name_in_run(data, "runs/a") == folders.name_in_run("data/ACDC", "runs/a")
    assert folders.name_in_run(data, "runs/a") == "data/ACDC"
    assert folders.name_in_run(tmp_path / "ACDC", "runs/a") == str(tmp_path / "ACDC")
    installed_in(tmp_path / "site-packages")
    monkeypatch.chdir(tmp_path)
    assert folders.name_in_run(tmp_path / "ACDC", "runs/a") == str(tmp_path / "ACDC")
