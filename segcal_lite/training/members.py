"""The members of deep ensembles, trained side by side.

Paper A, section V.C: M networks that differ in their random start and in the order of their
mini-batches. `segcal_lite.ensembles` averages what they say.
"""

import time
from concurrent.futures import FIRST_COMPLETED, wait
from dataclasses import dataclass
from pathlib import Path

from ..runs.devices import choose_device
from ..runs.folders import read_json
from ..runs.processes import SECONDS_BETWEEN_REPORTS, count_workers, spawned_processes
from .checkpoints import check_settings, is_finished, read_history
from .models import TrainingSettings
from .on_slices import train_model


@dataclass(frozen=True)
class Member:
    """A model to be trained, or trained: its folder and its settings."""

    folder: Path
    settings: TrainingSettings

    @property
    def finished(self):
        """Whether its weights lie in its folder."""
        return is_finished(self.folder)

    @property
    def title(self):
        """Loss, dropout and seed in words."""
        dropout = " with dropout" if self.settings.dropout else ""
        return f"{self.settings.loss}{dropout}, seed {self.settings.seed}"


def train_members(members, prepared_folder, executor=None, device="auto", report=print):
    """Train the members that are not finished yet, side by side where that pays.

    Parameters
    ----------
    members : list of Member
    prepared_folder : path
    executor : concurrent.futures.Executor, optional
        Any: it receives paths and settings, never arrays. By default one spawned process a core
        with one thread each, fewer where memory is short; on a GPU one process trains all.
    device : str
    report : callable
        Receives lines of text.

    Returns
    -------
    list of Member
        The same; all are finished.

    Raises
    ------
    ValueError
        If a member's folder holds a model of other settings.
    """
    waiting = [member for member in members if not member.finished]
    for member in members:
        check_settings(member.folder, member.settings)
    if len(waiting) < len(members):
        report(f"{len(members) - len(waiting)} of {len(members)} models were trained before")
    if not waiting:
        return members
    on_gpu = choose_device(device).type != "cpu"
    groups = [waiting] if on_gpu else [[member] for member in waiting]
    if executor is not None:
        _follow(executor, groups, prepared_folder, device, report)
        return members
    n_workers = 1 if on_gpu else count_workers(len(waiting))
    report(f"training {len(waiting)} models in {n_workers} processes")
    with spawned_processes(n_workers, keep=not on_gpu) as executor:
        _follow(executor, groups, prepared_folder, device, report)
    return members


def _follow(executor, groups, prepared_folder, device, report):
    """Submit the groups; report each end and, now and then, what is under way."""
    pending = {
        executor.submit(train_group, group, prepared_folder, device): group for group in groups
    }
    started, n_members = time.monotonic(), sum(map(len, groups))
    n_done = 0
    while pending:
        done, _ = wait(pending, SECONDS_BETWEEN_REPORTS, FIRST_COMPLETED)
        for future in done:
            for member in future.result():
                n_done += 1
                history = read_history(member.folder)
                report(
                    f"{n_done}/{n_members} {member.title}: validation Dice "
                    f"{history.validation_dice.max():.3f} after {len(history)} epochs "
                    f"({time.monotonic() - started:.0f} s)"
                )
            del pending[future]
        if not done:
            under_way = [member for group in pending.values() for member in group]
            for line in filter(None, map(_state_line, under_way)):
                report(line)


def train_group(members, prepared_folder, device):
    """Train a group of members one after another: the unit of work of an executor."""
    for member in members:
        train_model(member.folder, prepared_folder, member.settings, device)
    return members


def _state_line(member):
    """One line about a member that is training, or nothing."""
    path = member.folder / "state.json"
    if not path.exists():
        return None
    history = read_json(path)["history"]
    return (
        f"  {member.title}: epoch {len(history)}, "
        f"validation Dice {history[-1]['validation_dice']:.3f}"
    )
