"""Your own model: from folders of predictions and labels to scores, corrections, a list to review.

Each case is a unit of work, and so is each step: members and ensemble are scored; corrections are
fitted without the patient whom they correct, and scored; cases without labels are looked at. What
is finished is kept, so that the same call goes on after an interruption.
"""

from dataclasses import asdict, replace
from functools import partial
from shutil import disk_usage
from warnings import catch_warnings

import numpy as np

from ..._checks import check_choice, check_count, check_number, check_seed, named, wrong_input
from ...data.volumes import read_label
from ...runs.executors import check_scheduler, count_places, is_here
from ...runs.folders import enter_run, name_in_run, resolve_path, write_json
from ...runs.limits import free_memory
from ...runs.schedules import run_in_order
from .correction import CODE, CORRECTED, WRITTEN, cross_fit, remove_written, voxels_of_case
from .hard_labels import as_one_hot, score_cases
from .inputs import AVERAGED, gather_inputs
from .labelled_cases import KEPT, REGIONS, Judging, remove_kept, score_corrected_case
from .new_cases import look_at_new_case
from .results import write_notes, write_results
from .signatures import distances

SHARE_OF_DISK = 0.25  # of what is free, that probabilities may take for a while
ONE_PATIENT = ": labelled cases get none, for it would be fitted without the only patient there is"
WRITES_TO = ("tables", "figures", "scores", "voxels", KEPT, "corrected", CORRECTED, "new")
VOLUMES_AT_ONCE = 10  # of float32 and as many classes, that a worker holds: sums are float64


def evaluate(
    labels,
    predictions,
    out,
    images=(),
    dataset=None,
    new=(),
    patients=None,
    classes=(),
    signatures=(),
    members_averaged="probabilities",
    regions=REGIONS,
    n_bins=10,
    box_mm=8.0,
    band_mm=4.0,
    write_corrected=None,
    n_workers=None,
    seed=0,
    report=print,
    scheduler="processes",
):
    """Judge predictions by labels: scores, corrections, and new cases that a person should look at.

    Relative paths start from the project root, those of the command line from the current folder.

    Parameters
    ----------
    labels : path
        Folder with a label a case.
    predictions : path or list of path
        Folders of predictions, a member each (folds or seeds of one model), in a form that
        `segcal_lite.data.predictions` reads: nnU-Net's ``case.npz`` beside its segmentation, NIfTI,
        NumPy, or hard labels.
    out : path
        Folder that receives ``tables/``, ``correction.json`` and what single cases leave.
    images : path or list of path
        Folders with the images, only to be shown.
    dataset : path, optional
        nnU-Net's ``dataset.json`` with the names of classes or regions; by default the one beside
        the folder of labels, in it, or in the first folder of predictions that has one.
    new : path or list of path
        Folders of the same members' predictions for cases without labels.
    patients : path, optional
        A table with columns case and patient, where patients have several scans; by default
        ``cases.csv`` beside the folder of labels, else each case is a patient.
    classes : list of str
        Names of the label values 1, 2, ... where no ``dataset.json`` has them.
    signatures : pair of path
        Tables of `write_signatures`, of the training cases and of the cases here, new ones all:
        how far each lies from the training cases, as the network sees them.
    members_averaged : {"probabilities", "logits"}
        What the ensemble is the mean of. A's Eq. 6 and nnU-Net's ensembling of saved files average
        probabilities; nnU-Net averages logits over the folds of one prediction.
    regions : list of {"whole", "box", "band"}
        Where calibration is measured: in whole volumes, in boxes around the true foreground, in
        bands around true boundaries; each once.
    n_bins : int
        Of ECE and MCE.
    box_mm, band_mm : float
        How far boxes reach around the true foreground, and bands to either side of true boundaries.
    write_corrected : {"temperature", "vector_scaling", "both"}, optional
        Also write the probabilities so corrected, as NIfTI on the grid of each case, classes last,
        to ``probabilities/<method>/``: of a labelled case by what was fitted without its patient,
        of a new one by what was fitted to all.
    n_workers : int, optional
        Processes; by default as many as cores and memory allow.
    seed : int
        Of drawn voxels, folds and resampling.
    report : callable
        Receives lines of text.
    scheduler : str or concurrent.futures.Executor
        Where cases are judged: see `segcal_lite.runs.executors.check_scheduler`.

    Returns
    -------
    Path
        `out`. Cases that could not be judged are in ``tables/left_out.csv``, each with its reason.

    Raises
    ------
    ValueError
        If a folder or setting is wrong, `out` holds an evaluation of other settings, or would be
        written where something is read, or no case can be judged.
    """
    write = WRITTEN[check_choice("write_corrected", write_corrected, tuple(WRITTEN))]
    check_count("n_workers", 1 if n_workers is None else n_workers)
    check_scheduler(scheduler)
    settings = _settle(members_averaged, regions, n_bins, box_mm, band_mm, seed)
    out, given = resolve_path(out), (labels, predictions, images, dataset, new, patients)
    inputs = gather_inputs(*given, classes, signatures)
    _check_write(write_corrected, inputs.has_probabilities)
    _check_place(out, inputs)
    _enter(out, labels, inputs, settings)
    _tell(inputs, report)
    n_bytes = _bytes_a_case(inputs)
    n_workers = n_workers or _count_workers(scheduler, inputs, n_bytes)
    run = partial(_run, n_workers=n_workers, scheduler=scheduler, report=report)
    judging = _judge(out, inputs, settings, n_bytes)
    judging, facts, left_out = score_cases(run, judging, inputs.cases)
    if not facts:
        raise wrong_input(labels, f"no case that can be judged ({left_out[0][2]})", "one at least")
    _check_write(write_corrected, judging.has_probabilities)
    of_cases, of_all = _correct(run, judging, facts, inputs.patients, write, report)
    new_members = as_one_hot(inputs.new_members, judging.members[0].is_one_hot)
    jobs = dict.fromkeys(inputs.new_cases, (of_all, write))
    looking = replace(judging, members=new_members)
    new_facts, new_left_out = run("looked at", look_at_new_case, looking, jobs)
    far = inputs.signatures and distances(inputs.signatures, *map(_names, (facts, new_facts)))
    remove_written(out, [*(facts if of_cases else ()), *(new_facts if of_all else ())])
    write_results(judging, facts, inputs.patients, bool(of_cases), new_facts, far)
    write_notes(out, facts, new_facts, [*inputs.left_out, *left_out, *new_left_out])
    return out


def _settle(members_averaged, regions, n_bins, box_mm, band_mm, seed):
    """Check what scores depend on beside the inputs; return it by name."""
    check_choice("members_averaged", members_averaged, AVERAGED)
    regions = dict.fromkeys(check_choice("regions", region, REGIONS) for region in regions)
    return {
        "members_averaged": members_averaged,
        "regions": tuple(regions),
        "n_bins": check_count("n_bins", n_bins),
        "box_mm": check_number("box_mm", box_mm),
        "band_mm": check_number("band_mm", band_mm, least=1e-3),
        "seed": check_seed(seed),
    }


def _check_place(out, inputs):
    """Refuse to write where something is read: files of the same names would be lost."""
    members = (*inputs.members, *inputs.new_members)
    read = [path.parent for case in (*inputs.cases, *inputs.new_cases) for path in case.paths]
    for folder in dict.fromkeys([*(member.path for member in members), *read]):
        for own in (out / name for name in WRITES_TO):
            if own.exists() and any(map(own.samefile, (folder, *folder.parents))):
                found = f"{out}, where {own} would be written to and {folder} is read"
                raise wrong_input("out", found, "a folder of its own")


def _enter(out, labels, inputs, settings):
    """Begin the evaluation in a folder, or go on with the same one."""
    identity = {
        "labels": name_in_run(labels, out),
        "predictions": [name_in_run(member.path, out) for member in inputs.members],
        "names": asdict(inputs.names),
        **settings,
    }
    enter_run(out, "evaluation.json", identity, "cpu")


def _tell(inputs, report):
    """Report what was decided, and the cases that are left out, by reason and folder."""
    for note in inputs.notes:
        report(note)
    reasons = {}
    for case, folder, why, _ in inputs.left_out:
        reasons.setdefault((why, folder), []).append(case)
    for (why, folder), cases in reasons.items():
        report(f"left out: {named(cases)}: {why} ({folder})")


def _judge(out, inputs, settings, n_bytes):
    """Return the `Judging`; it keeps probabilities between steps where the disk has room."""
    has_room = n_bytes * len(inputs.cases) < SHARE_OF_DISK * disk_usage(out).free
    n_voxels = voxels_of_case(len(inputs.cases), inputs.n_classes)
    judging = Judging(out, inputs.names, inputs.members, **settings, n_voxels=n_voxels)
    return replace(judging, keeps_probs=has_room)


def _correct(run, judging, facts, patients, write, report):
    """Fit the corrections and score the corrected cases; return those of cases and that of all."""
    of_cases, of_all, failed = {}, None, []
    if judging.has_probabilities:
        of_cases, of_all = _corrections(judging, facts, patients)
        report("corrections are fitted" + ("" if of_cases else ONE_PATIENT))
        jobs = {case: (of_cases[case.name], write) for case in facts if of_cases}
        _, failed = run("corrected", score_corrected_case, judging, jobs)
    else:
        (judging.out / "correction.json").unlink(missing_ok=True)  # of a call that had some
    remove_kept(judging.out)
    if failed:  # it could be scored a moment ago
        raise ValueError(failed[0][2])
    return of_cases, of_all


def _check_write(write_corrected, has_probabilities):
    """Refuse to write corrected probabilities where there are none."""
    if write_corrected and not has_probabilities:
        expected = "none for hard labels, which have no probabilities to correct"
        raise wrong_input("write_corrected", repr(write_corrected), expected)


def _names(cases):
    """Names of cases."""
    return [case.name for case in cases]


def _run(done, work, judging, jobs, n_workers, scheduler, report):
    """Run `work` on each case; return the facts of cases, and of the others what is left out."""
    if not jobs:
        return {}, []
    n_done = 0

    def tell(*_):
        nonlocal n_done
        n_done += 1
        if n_done == len(jobs) or n_done % max(1, len(jobs) // 10) == 0:
            report(f"{done} {n_done} of {len(jobs)} cases")

    by_name = {case.name: (work, judging.only(case), case, *asked) for case, asked in jobs.items()}
    results = run_in_order(
        by_name,
        n_workers=n_workers,
        finished=tell,
        under_way=lambda names: report(f"  under way: {named(names)}"),
        scheduler=scheduler,
        folder=judging.out,
    )
    facts, left_out = {}, []
    for case in jobs:
        found = results[case.name]
        if "why" in found:
            left_out.append((case.name, found["folder"], found["why"], case.group))
            report(f"left out: {case.name}: {found['why']}")
        else:
            facts[case] = found
    return facts, left_out


def _bytes_a_case(inputs):
    """Bytes of a case's probabilities, by the size of the first label."""
    try:
        with catch_warnings(action="ignore"):  # its header's doubts are noted when it is scored
            n_voxels = np.prod(read_label(inputs.cases[0].label_path).grid_shape)
    except ValueError:  # told when the case is scored
        n_voxels = 0
    return 4 * int(n_voxels) * inputs.n_classes * max(1, len(inputs.names.regions))


def _count_workers(scheduler, inputs, n_bytes):
    """As many processes as cores, memory and cases allow here."""
    n_places = count_places(scheduler, len(inputs.cases) + len(inputs.new_cases))
    n_volumes = int(free_memory() // max(n_bytes, 1))
    return max(1, min(n_places, n_volumes // VOLUMES_AT_ONCE)) if is_here(scheduler) else n_places


def _corrections(judging, facts, patients):
    """Fit the corrections of each case without its patient, and one for new cases; write them."""
    samples = {case.name: judging.path("voxels", case, ".npz") for case in facts}
    of_cases, of_all = cross_fit(samples, patients, seed=judging.seed)
    content = {"of all": of_all.to_json(), "of": judging.uncorrected, "code": CODE}
    content |= {"without the patient of": {case: c.to_json() for case, c in of_cases.items()}}
    write_json(judging.out / "correction.json", content)
    return of_cases, of_all
