"""One run of paper B: a folder with many sets, their models by plan, their scores.

The notebooks share this: whichever comes first makes what it needs, the others reuse it.
"""

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pandas as pd

from .._checks import check_choice, check_seed, named
from ..data.cases import check_leave_out
from ..data.prepared import of_split
from ..data.sets import prepare_set, read_sets, read_sets_prepared
from ..data.splits import SPLITS
from ..runs.devices import choose_device
from ..runs.executors import check_scheduler, count_places
from ..runs.folders import (
    enter_run,
    model_folder,
    name_in_run,
    read_json,
    record_settings,
    resolve_path,
    text_digest,
)
from ..runs.schedules import run_in_order
from ..training.checkpoints import check_settings, is_finished, remove_checkpoint
from ..training.models import BlockSettings
from ..training.on_blocks import progress_of, train_block_model
from ..training.plans import plan_name, short_plan_name
from .profiles import VolumeProfile, check_counts, get_volume_profile
from .volume_scores import (
    LAYOUT,
    ScoreRequest,
    VolumeScoring,
    read_scores,
    score_volumes,
    unscored,
)

NETWORK = "resunet3d"
COLUMNS = ["data", "training", "set", "case", "patient", "metric", "value"]  # of `metrics`


@dataclass(frozen=True)
class JointExperiment:
    """A run folder with its sets and profile; see `open_joint_experiment`.

    Attributes
    ----------
    sets : dict of list of `segcal_lite.data.prepared.PreparedCase`
    fingerprints : dict of str
        Of each set's data, and of all that was done to it: organ, channel, grid, intensities.
    """

    out: Path
    data: str
    profile: VolumeProfile
    seed: int
    device: str
    sets: dict
    fingerprints: dict
    scheduler: object = "processes"  # where jobs run: no part of what the run is

    def cases(self, name, split=None):
        """The cases of one set, of one split or all."""
        check_choice("set", name, tuple(self.sets))
        check_choice("split", split, (None, *SPLITS))
        return [case for case in self.sets[name] if split in (None, case.split)]

    def folder(self, plan, dropout=False):
        """Folder of the model of a plan."""
        by_kind = model_folder(self.out, NETWORK, "dice", self.seed, dropout)
        return by_kind.parent / short_plan_name(plan) / by_kind.name

    def settings(self, plan, dropout=False):
        """`BlockSettings` of the model of a plan."""
        for name in dict.fromkeys(name for stage in plan for name in stage):
            check_choice("set", name, tuple(self.sets))
        return BlockSettings.gather(plan, self.fingerprints, self.profile, self.seed, dropout)

    def train(self, plans, dropout=False, report=print):
        """Train the models of `plans` and of the stages before them that are not finished yet.

        Parameters
        ----------
        plans : list of tuple
            From `plans.joint`, `dedicated` and `chain`.
        dropout : bool or list of bool
            One for all plans, or one each.
        report : callable
        """
        flags = dropout if isinstance(dropout, list) else [dropout] * len(plans)
        self._run(*self._training_jobs(zip(plans, flags, strict=True), report), report)

    def _training_jobs(self, models, report):
        """Jobs of the models that are not finished, by (plan, dropout), and what comes before each.

        Long trainings first: a mix of many sets may take as many evaluations.
        """
        wanted = {}
        for plan, dropout in models:
            for n_stages in range(1, len(plan) + 1):
                wanted[plan[:n_stages], dropout] = self._training_job(plan[:n_stages], dropout)
        waiting = {}
        for key in sorted(wanted, key=lambda key: -len(key[0][-1])):
            check_settings(self.folder(*key), self.settings(*key))
            if is_finished(self.folder(*key)):
                remove_checkpoint(self.folder(*key))
            else:
                waiting[key] = wanted[key]
        if waiting:
            record_settings(self.out, "joint", asdict(self.profile))
        if len(waiting) < len(wanted):
            report(f"{len(wanted) - len(waiting)} of {len(wanted)} models were trained before")
        if waiting:
            report(f"training {len(waiting)} models")
        return waiting, {key: (key[0][:-1], key[1]) for key in waiting}

    def _run(self, jobs, before, report):
        """Run jobs of training and scoring side by side; report how they go."""
        is_training = {key: work is train_block_model for key, (work, *_) in jobs.items()}
        scorings = [key for key in jobs if not is_training[key]]
        n_volumes, done = sum(len(missing) for _, missing in scorings), []

        def finished(key, seconds):
            if is_training[key]:
                done.append(key)
                where = f"{len(done)}/{sum(is_training.values())}"
                report(f"{where} {_progress(*key, self.folder(*key))} ({seconds:.0f} s)")

        def under_way(keys):
            for key in filter(is_training.get, keys):
                report(f"  {_progress(*key, self.folder(*key))}")
            if not all(map(is_training.get, keys)):
                left = [unscored(out, missing, jobs[out, missing][1]) for out, missing in scorings]
                report(f"  {n_volumes - sum(map(len, left))} of {n_volumes} volumes are scored")

        n_workers = count_places(self.scheduler, len(jobs), self.device)
        run_in_order(jobs, before, n_workers, finished, under_way, self.scheduler, self.out)

    def _training_job(self, plan, dropout):
        """`train_block_model` and its arguments: paths and settings, never arrays."""
        start = self.folder(plan[:-1], dropout) if len(plan) > 1 else None
        prepared = {name: self._set_folder(name) / "prepared" for name in plan[-1]}
        folder, settings = self.folder(plan, dropout), self.settings(plan, dropout)
        return train_block_model, folder, settings, prepared, start, self.device

    def _set_folder(self, name):
        """Where the data and prepared cases of a set lie."""
        return self.out / "sets" / name

    def scoring(self, layers=(), shuffle_seed=0):
        """How volumes are scored in this run; `layers` are those whose spectra are wanted."""
        return VolumeScoring.gather(self.profile, layers, shuffle_seed)

    def score(self, requests, report=print):
        """Score volumes that are not scored yet, side by side.

        Parameters
        ----------
        requests : list of segcal_lite.experiments.volume_scores.ScoreRequest
        report : callable

        Returns
        -------
        list of list of dict
            For each request what `volume_scores.score_volume` returns for each case.
        """
        for request in requests:  # before anything is trained
            if request.split:
                of_split(self.cases(request.name), request.split, f"set {request.name}")
        models = [(request.plan, request.dropout) for request in requests]
        jobs, before = self._training_jobs(models, report)
        scorings, places = {}, []
        for plan, dropout, name, split, scoring in requests:
            names = [case.name for case in self.cases(name, split)]
            out = self._score_folder(plan, dropout, name, scoring)
            places.append((out, names))
            folder = self.folder(plan, dropout)
            is_trained = (plan, dropout) not in jobs
            missing = tuple(unscored(out, names, folder) if is_trained else names)
            if missing:
                prepared = self._set_folder(name) / "prepared"
                arguments = folder, prepared, missing, out, scoring, self.device
                scorings[out, missing] = score_volumes, *arguments
                before[out, missing] = plan, dropout
        if scorings:
            report(f"scoring {sum(len(missing) for _, missing in scorings)} volumes")
        jobs |= dict(sorted(scorings.items(), key=lambda item: -len(item[0][1])))
        self._run(jobs, before, report)
        return [read_scores(out, names) for out, names in places]

    def _score_folder(self, plan, dropout, name, scoring):
        """Folder of the scores of one set by one model; another one for other settings or data."""
        settings = asdict(scoring), asdict(self.settings(plan, dropout))
        facts = [LAYOUT, *settings, self.fingerprints[name]]
        digest = text_digest(json.dumps(facts), 12)
        model = f"{short_plan_name(plan)}{'-dropout' if dropout else ''}"
        return self.out / "scores" / model / str(self.seed) / name / digest

    def metrics(self, plans, sets=None, report=print):
        """The long table of segmentation and calibration scores on the test cases.

        Parameters
        ----------
        plans : list of tuple
        sets : sequence of str, optional
            Every model is scored on each of them; by default on the sets that it was trained on.
        report : callable

        Returns
        -------
        pandas.DataFrame
            Columns data, training, set, case, patient, metric, value.
        """
        scoring = self.scoring()
        pairs = [
            (plan, name)
            for plan in plans
            for name in (sets or dict.fromkeys(name for stage in plan for name in stage))
        ]
        requests = [ScoreRequest(plan, False, name, "test", scoring) for plan, name in pairs]
        rows = [
            (self.data, plan_name(plan), name, case.name, case.patient, metric, value)
            for (plan, name), scores in zip(pairs, self.score(requests, report), strict=True)
            for case, score in zip(self.cases(name, "test"), scores, strict=True)
            for metric, value in score["metrics"].items()
        ]
        return pd.DataFrame(rows, columns=COLUMNS)


def _progress(plan, dropout, folder):
    """Name a model for people, and how far its training is: its last evaluation in words."""
    title = short_plan_name(plan) + (" with dropout" if dropout else "")
    return f"{title}: {progress_of(folder)}"


def open_joint_experiment(
    out,
    data,
    sets=None,
    profile="smoke",
    seed=0,
    device="auto",
    report=print,
    leave_out=None,
    crop_size=None,
    cut_foreground=False,
    scheduler="processes",
    **scale,
):
    """Open a run folder of many sets: read each, prepare every case.

    Parameters
    ----------
    out, profile, seed, device, report, scheduler, **scale
        As in `segcal_lite.experiments.one_dataset.open_experiment`.
    data : path
        A file of sets or a folder of datasets: see `segcal_lite.data.sets`.
    sets : sequence of str, optional
        Those that are needed now; others may be opened later in the same folder. Default all.
    leave_out : list of str, optional
        Sets and cases to go on without, as in `segcal_lite.data.sets.read_sets`.
    crop_size : tuple of three int, optional
        Of all sets; by default as the file of sets says.
    cut_foreground : bool
        Go on with all sets though a crop cuts away more than `segcal_lite.data.grids.MOST_CUT` of
        an organ; else with those of which the file of sets says so.

    Returns
    -------
    JointExperiment

    Raises
    ------
    ValueError
        If the folder holds a run of other settings, or the data are wrong.
    """
    check_seed(seed)
    out, device = resolve_path(out), str(choose_device(device))
    check_choice("cut_foreground", cut_foreground, (True, False))
    check_scheduler(scheduler)
    settled, left_out = get_volume_profile(profile, **scale), check_leave_out(leave_out)
    sources = read_sets(resolve_path(data), seed, left_out)
    given = {"cut_foreground": True} if cut_foreground else {}
    if crop_size is not None:
        given["crop_size"] = check_counts("crop_size", crop_size, 3)
    names = tuple(check_choice("set", name, tuple(sources)) for name in sets or sources)
    sources = {name: replace(sources[name], **given) for name in names}
    data_name = name_in_run(data, out)
    identity = {"data": data_name, "seed": seed, "profile": profile, "leave_out": left_out}
    enter_run(out, "joint.json", identity, device, asdict(settled))
    if left_out:
        report(f"left out by name: {named(left_out)}")
    folders = {name: out / "sets" / name for name in names}
    missing = [name for name in names if not (folders[name] / "fingerprint.json").exists()]
    if missing:
        report(f"preparing {len(missing)} sets")
    jobs = {name: (prepare_set, folders[name], sources[name]) for name in missing}

    def under_way(names):
        report(f"  preparing {named(names)}")

    n_workers = count_places(scheduler, len(missing))
    run_in_order(jobs, None, n_workers, None, under_way, scheduler, out)
    for name in set(names) - set(missing):
        prepare_set(folders[name], sources[name])  # refuses other settings
    for name, folder in folders.items():
        for note in read_json(folder / "notes.json", shape=list):
            report(f"{name}: {note}")
    cases = read_sets_prepared(folders, sources)
    fingerprints = {n: read_json(f / "fingerprint.json", shape=str) for n, f in folders.items()}
    return JointExperiment(out, data_name, settled, seed, device, cases, fingerprints, scheduler)
