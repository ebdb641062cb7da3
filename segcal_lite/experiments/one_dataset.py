"""One run: data, task and profile tied to a folder, each stage made when missing.

The notebooks share this: whichever comes first makes what it needs, the others reuse it.
"""

from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from .._checks import check_choice, check_seed
from ..calibration import CalibrationSums
from ..data.cases import check_leave_out
from ..data.datasets import read_dataset
from ..data.grids import Grid, check_cut, read_grid
from ..data.labels import stored_survey
from ..data.prepared import of_split, prepare_dataset
from ..data.tasks import TASKS, Task
from ..losses import LOSSES
from ..report.verdicts import collapsed_members, verdicts_of_scores
from ..runs.arrays import read_arrays
from ..runs.devices import choose_device
from ..runs.executors import check_scheduler, count_places
from ..runs.folders import (
    check_same_settings,
    enter_run,
    model_folder,
    name_in_run,
    record_settings,
    resolve_path,
)
from ..runs.schedules import run_in_order
from ..runs.tables import check_columns, read_table
from ..training.checkpoints import read_history
from ..training.members import Member, train_members, unfinished
from ..training.models import TrainingSettings
from .case_scores import ScoredCase, Scoring, fit_member_scalings, score_cases, sums_key
from .profiles import PROFILES, Profile, given_settings
from .settled import settle

NUMBERS = ("member", "n_members", "value")  # columns of scores, and the others
TEXTS = ("loss", "domain", "case", "method", "region", "metric", "segment")
SEEDS_PER_RUN = 1000  # members of two runs share no seed


@dataclass(frozen=True)
class Experiment:
    """A run folder with its dataset, task and profile; see `open_experiment`."""

    out: Path
    data: str
    task: Task
    profile: Profile
    seed: int
    device: str
    cases: list
    data_fingerprint: str
    notes: tuple
    grid: Grid
    scheduler: object = "processes"  # where jobs run: no part of what the run is

    def members(self, loss, dropout=False):
        """The models of one loss, trained or not: the pool, or those for MC dropout."""
        check_choice("loss", loss, LOSSES)
        n_members = self.profile.n_dropout_models if dropout else self.profile.n_members
        members = []
        for seed in range(SEEDS_PER_RUN * self.seed, SEEDS_PER_RUN * self.seed + n_members):
            settings = TrainingSettings.gather(
                self.task, self.profile, self.data_fingerprint, loss, seed, dropout
            )
            network = f"unet{len(self.profile.crop_size)}d"
            folder = model_folder(self.out, network, loss, seed, settings.dropout)
            members.append(Member(folder, settings))
        return members

    def train(self, losses=("ce", "dice"), report=print):
        """Train the pools and the dropout models of `losses` that are not finished yet."""
        members = [
            member
            for loss in losses
            for dropout in (False, True)
            for member in self.members(loss, dropout)
        ]
        if unfinished(members):
            record_settings(self.out, "run", asdict(self.profile))
        train_members(members, self.prepared_folder, self.scheduler, self.device, report, self.out)
        for loss in losses:
            for line in self.collapsed(loss):
                report(f"collapsed, and in the ensemble all the same: {line}")
        return members

    def collapsed(self, loss):
        """The members of one pool that have collapsed, by validation Dice of the weights kept.

        Segments that the truth does not hold count nowhere, but in histories of earlier versions.
        """
        best = {}
        for member in self.members(loss):
            history = read_history(member.folder)
            kept = history.loc[history.validation_dice.idxmax()]
            best[member.title] = kept.get("validation_dice_present", kept.validation_dice)
        return collapsed_members(best)

    @property
    def prepared_folder(self):
        """Where the prepared cases lie."""
        return self.out / "prepared"

    def split(self, split, domain=None):
        """The prepared cases of one split, of one domain or of all."""
        return [c for c in self.cases if c.split == split and domain in (None, c.domain)]

    @property
    def regions(self):
        """Names of the scored regions; one that is another in every test case is named once."""
        same = all(case.regions["box"] == case.regions["whole"] for case in self.split("test"))
        return ("box",) if same else ("box", "whole")

    def scoring(self, loss):
        """What is needed to score the models of one loss."""
        profile = self.profile
        return Scoring(
            out=self.out,
            loss=loss,
            members=tuple(member.folder for member in self.members(loss)),
            dropout_members=tuple(member.folder for member in self.members(loss, dropout=True)),
            segments=self.task.segments,
            region_order=self.task.region_order,
            ensemble_sizes=profile.ensemble_sizes,
            n_resamples=profile.n_resamples,
            n_passes=profile.n_passes,
            n_bins=profile.n_bins,
            seed=self.seed,
        )

    def scores(self, losses=("ce", "dice"), report=print):
        """The long table of all scores of the test cases; models are trained when missing.

        Returns
        -------
        pandas.DataFrame
            Columns task, data, loss, domain, case, method, member, n_members, region, segment,
            metric, value; patient, who may have several cases; and known: whether training cases
            are from the case's domain.
        """
        names = [case.name for case in of_split(self.cases, "test", self.prepared_folder)]
        self.train(losses, report)
        jobs = [ScoredCase(scored, name) for scored in map(self.scoring, losses) for name in names]
        waiting = [job for job in jobs if not job.is_complete]
        cut = [path for job in waiting if (path := job.path(".csv")).exists()]
        if cut:
            report(f"{len(cut)} scores are cut short, so made again; the first: {cut[0]}")
        if waiting:
            report(f"scoring {len(waiting)} of {len(jobs)} cases and losses")
            self._score(waiting, report)
        paths = [job.path(".csv") for job in jobs]
        tables = [check_columns(p, read_table(p, sealed=True), NUMBERS, TEXTS) for p in paths]
        table = pd.concat(tables, ignore_index=True)
        table.insert(0, "data", self.data)
        table.insert(0, "task", self.task.name)
        table["patient"] = table.case.map({case.name: case.patient for case in self.cases})
        table["known"] = table.domain.isin(self.known_domains)
        for claim, found in self.verdicts(table).items():
            if found.startswith(("no conclusion", "collapsed")):
                report(f"{claim}: {found}")
        return table

    def verdicts(self, scores):
        """What the scores allow to be concluded, a dict of texts: `segcal_lite.report.verdicts`.

        Counts of cases, collapsed members by segment, and mean Dice where training cases come from.
        """
        n_validation = len({case.patient for case in self.split("validation")})
        return verdicts_of_scores(scores, self.known_domains, n_validation)

    @property
    def known_domains(self):
        """The domains that training cases are from."""
        return {case.domain for case in self.split("train")}

    def _score(self, jobs, report):
        """Fit the members' scalings, then share the cases between processes, a few at a time."""
        n_workers = count_places(self.scheduler, len(jobs), self.device)
        prepared, device, fits, chunks = self.prepared_folder, self.device, {}, {}
        for scoring in dict.fromkeys(job.scoring for job in jobs):
            for folder in scoring.members:
                fits[folder] = fit_member_scalings, folder, prepared, device
            names = [job.name for job in jobs if job.scoring == scoring]
            for part in np.array_split(names, min(len(names), 2 * n_workers)):
                chunks[scoring, part[0]] = score_cases, scoring, prepared, list(part), device

        fitted, left = [], list(jobs)

        def tell_fits(key, seconds=None):
            fitted.extend([] if seconds is None else [key])
            report(f"  scalings of {len(fitted)} of {len(fits)} models are fitted")

        def tell_scores(*_):
            left[:] = [job for job in left if not job.is_complete]
            report(f"  {len(jobs) - len(left)} of {len(jobs)} are scored")

        for work, told in ((fits, tell_fits), (chunks, tell_scores)):
            run_in_order(work, None, n_workers, told, told, self.scheduler, self.out)

    def sums(self, loss, method, member=0, region="box", cases=None):
        """`CalibrationSums` vectors of test cases, shape (n_cases, d), to pool or to resample."""
        scoring, vectors = self.scoring(loss), []
        for case in self.split("test") if cases is None else cases:
            key = sums_key(method, member, region)
            vectors.append(read_arrays(ScoredCase(scoring, case.name).path(".npz"), key)[key])
        return np.stack(vectors)

    def pooled(self, loss, method, member=0, region="box", cases=None):
        """`CalibrationResult` of all voxels of the cases together."""
        vector = self.sums(loss, method, member, region, cases).sum(axis=0)
        n_bins = self.profile.n_bins
        return CalibrationSums.from_vector(vector, self.task.n_classes, n_bins).result()


def open_experiment(
    out,
    data,
    task=None,
    profile="smoke",
    seed=0,
    device="auto",
    report=print,
    leave_out=None,
    cut_foreground=False,
    scheduler="processes",
    **scale,
):
    """Open a run folder: read the data, settle task and profile, prepare every case.

    Parameters
    ----------
    out : path
        Run folder; relative paths start at the project root.
    data : path
        A dataset in the common layout.
    task : str, optional
        A name in `segcal_lite.data.tasks.TASKS`. Without one it is as the dataset says, and its
        voxels become so large that the crop holds the foreground.
    profile : {"smoke", "laptop", "paper"}
    seed : int
        Of splits, members and resampling.
    device : str
    report : callable
        Receives lines of text.
    leave_out : list of str, optional
        Cases to go on without; part of the run's identity.
    cut_foreground : bool
        Go on though the crop cuts away more than `segcal_lite.data.grids.MOST_CUT` of a segment.
    scheduler : str or concurrent.futures.Executor
        Where models are trained and cases scored: see `segcal_lite.runs.executors.check_scheduler`.
    **scale
        Settings of the profile to override; ``None`` leaves them.

    Returns
    -------
    Experiment

    Raises
    ------
    ValueError
        If the folder holds a run of other settings, the data are wrong, or the crop cuts away too
        much of them.
    """
    check_seed(seed)
    out, folder, device = resolve_path(out), resolve_path(data), str(choose_device(device))
    check_choice("profile", profile, tuple(PROFILES))
    given_settings(Profile, scale)
    check_choice("cut_foreground", cut_foreground, (True, False))
    check_scheduler(scheduler)
    dataset = read_dataset(folder, task=TASKS.get(task), seed=seed, leave_out=leave_out)
    identity = {"data": name_in_run(data, out), "fingerprint": dataset.fingerprint()}
    identity |= {"profile": profile, "seed": seed, "leave_out": check_leave_out(leave_out)}
    if (out / "run.json").exists():  # before another dataset's survey.json replaces that of the run
        check_same_settings(out / "run.json", identity, are_all=False)
    extents = stored_survey(out / "survey.json", dataset)
    known, settled, grid = settle(dataset, task, profile, extents, cut_foreground, **scale)
    if not cut_foreground:
        check_cut(grid, f"{dataset.name}, crop_size {settled.crop_size}")
    for note in dataset.notes:
        report(note)
    identity |= {"task": asdict(known), "crop_size": settled.crop_size}
    enter_run(out, "run.json", identity, device, asdict(settled))
    cases = prepare_dataset(dataset, known, settled.crop_size, out / "prepared", report, grid=grid)
    grid = read_grid(out / "prepared")
    made = device, cases, identity["fingerprint"], dataset.notes, grid
    return Experiment(out, identity["data"], known, settled, seed, *made, scheduler)
