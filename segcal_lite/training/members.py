"""The members of deep ensembles, trained side by side.

Paper A, section V.C: M networks that differ in their random start and in the order of their
mini-batches. `segcal_lite.ensembles` averages what they say.
"""

from dataclasses import dataclass
from pathlib import Path

from ..runs.devices import choose_device
from ..runs.executors import count_places, is_here
from ..runs.schedules import run_in_order
from .checkpoints import (
    check_settings,
    history_so_far,
    is_finished,
    read_history,
    remove_checkpoint,
)
from .groups import N_LANES, train_group
from .models import TrainingSettings


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


def unfinished(members):
    """Return those that are not finished; a folder with a model of other settings is refused."""
    for member in members:
        check_settings(member.folder, member.settings)
    return [member for member in members if not member.finished]


def train_members(
    members, prepared_folder, scheduler="processes", device="auto", report=print, folder=None
):
    """Train the members that are not finished yet, side by side where that pays.

    Parameters
    ----------
    members : list of Member
    prepared_folder : path
    scheduler : str or concurrent.futures.Executor
        Where they are trained, see `segcal_lite.runs.executors.check_scheduler`: by default one
        process a core with one thread each, fewer where memory is short. This machine's GPU
        gets all of them as one group, those of a cluster as many as have a turn at a time.
    device : str
    report : callable
        Receives lines of text.
    folder : path, optional
        Of the run, which workers elsewhere have to see.

    Returns
    -------
    list of Member
        The same; all are finished.

    Raises
    ------
    ValueError
        If a member's folder holds a model of other settings.
    """
    waiting = unfinished(members)
    for member in members:
        if member.finished:
            remove_checkpoint(member.folder)
    if len(waiting) < len(members):
        report(f"{len(members) - len(waiting)} of {len(members)} models were trained before")
    if not waiting:
        return members
    device = choose_device(device)
    size = 1 if device.type == "cpu" else len(waiting) if is_here(scheduler) else N_LANES
    groups = [waiting[k : k + size] for k in range(0, len(waiting), size)]
    n_workers = count_places(scheduler, len(groups), device)
    where = f"{n_workers} side by side" if is_here(scheduler) else "handed out together"
    report(f"training {len(waiting)} models, {where}")
    done = []

    def finished(number, seconds):
        for member in groups[number]:
            done.append(member)
            history = read_history(member.folder)
            report(
                f"{len(done)}/{len(waiting)} {member.title}: validation Dice "
                f"{history.validation_dice.max():.3f} after {len(history)} epochs ({seconds:.0f} s)"
            )

    def under_way(numbers):
        for group in (groups[number] for number in numbers):
            lines = list(filter(None, map(_state_line, group)))
            if len(group) > 1:
                n_trained = sum(member.finished for member in group)
                lines.insert(0, f"  {n_trained} of {len(group)} models are trained")
            for line in lines or [f"  {group[0].title}: under way"]:
                report(line)

    jobs = {k: (train_group, group, prepared_folder, device) for k, group in enumerate(groups)}
    run_in_order(jobs, None, n_workers, finished, under_way, scheduler, folder)
    return members


def _state_line(member):
    """One line about a member that is training, or nothing."""
    history = [] if member.finished else history_so_far(member.folder)
    return history and (
        f"  {member.title}: epoch {len(history)}, "
        f"validation Dice {history[-1]['validation_dice']:.3f}"
    )
