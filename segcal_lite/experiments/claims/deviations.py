"""How a run was made, and how that departs from the papers' settings: beside each verdict."""

from dataclasses import fields

from ...data.tasks import TASKS, Task
from ...runs.folders import read_json
from ..profiles import PROFILES, VolumeProfile, get_profile, get_volume_profile

BESIDE = ("joint", "evaluation")  # kinds of runs that name their settings in a file of their own
OF_A = {  # settings of paper A, in words
    "crop_size": "crop",
    "n_epochs": "epochs at most",
    "batch_size": "mini-batch",
    "n_members": "networks a loss",
    "n_passes": "passes with dropout",
    "plateau_patience": "epochs of a plateau",
    "learning_rate": "learning rate",
    "plateau_factor": "factor of a plateau",
    "plateau_gain": "gain of a plateau",
    "widths": "channels",
    "dropout": "dropout",
    "n_resamples": "ensembles of a size",
    "precision": "precision",
}
OPEN = {"precision": "not printed", "n_evaluations": "no bound"}  # what the papers have there
OF_B = {  # of paper B
    "block_side": "side of a block",
    "overlap": "overlap",
    "n_features": "features",
    "learning_rate": "learning rate",
    "rate_factor": "factor of the rate",
    "fine_tuning_factor": "factor of fine-tuning",
    "foreground_share": "blocks centred on foreground",
    "dropout": "dropout",
    "evaluate_every": "iterations between evaluations",
    "n_flat_to_stop": "flat evaluations to stop",
    "n_evaluations": "evaluations at most, a set",
    "n_passes": "passes with dropout",
}


def record_of(folder):
    """Return how a run was made, from its folder or from what was published of it.

    A run of slices at the top; of many sets below ``joint``, of whole volumes below ``volumetric``,
    of somebody's predictions below ``evaluation``.
    """
    found = {
        name: read_json(folder / name, shape=dict)
        for name in ("run.json", "provenance.json", *(f"{kind}.json" for kind in BESIDE))
        if (folder / name).exists()
    }
    record = found.get("run.json", {}) | found.get("provenance.json", {})
    record |= {kind: found[f"{kind}.json"] for kind in BESIDE if f"{kind}.json" in found}
    if (folder / "volumetric" / "run.json").exists():
        record["volumetric"] = record_of(folder / "volumetric")
    return record


def made_of(record):
    """Return data, task, profile, seed and origin of a record, whichever kind of run it is of.

    >>> made_of({"volumetric": {"seed": 1, "commit": "a"}, "joint": {"seed": 0}})["seed"]
    0
    """
    return record.get("volumetric", {}) | record.get("joint", {}) | record


def all_deviations(record, n_members):
    """Return deviations in words by paper, A or B, and for A10 of whole volumes."""
    settings, found = record.get("settings", {}), {}
    for name, of in (("A", record), ("A10", record.get("volumetric", {}))):
        if "task" in of:
            made = of | {"settings": of.get("settings", {}).get("run", {})}
            found[name] = deviations_of(made, _task(of["task"]), n_members.get(name))
    if "joint" in record:
        made = record["joint"] | {"settings": settings.get("joint", {})}
        found["B"] = deviations_of_volumes(made)
    return found


def _task(known):
    """A task as JSON has it, or by its name alone."""
    known = {"name": known} if isinstance(known, str) else known
    given = {field.name: known.get(field.name, ()) for field in fields(Task)[:6]} | known
    return Task(**{k: tuple(v) if isinstance(v, list) else v for k, v in given.items()})


def deviations_of(made, task, n_members=None):
    """Return in words which settings of a run are not paper A's: ours, and in brackets the paper's.

    Parameters
    ----------
    made : dict
        ``profile``, and of what departs from it ``settings`` or the settings themselves.
    task : Task
    n_members : int, optional
        Networks a loss that were scored.

    Examples
    --------
    >>> from segcal_lite.data.tasks import TASKS
    >>> made = {"profile": "paper", "crop_size": [128, 128]}
    >>> deviations_of(made, TASKS["heart"], n_members=16)
    'crop 128 x 128 (224 x 224), networks a loss 16 (100)'
    >>> deviations_of({"profile": "paper", "crop_size": [48, 64, 48]}, TASKS["heart"])
    'crop 48 x 64 x 48 (112 x 112 x 112), mini-batch 2 (16)'
    """
    if made.get("profile") not in PROFILES:
        return ""
    given = {name: made[name] for name in OF_A if name in made} | made.get("settings", {})
    given |= {"n_members": n_members} if n_members else {}
    crop = given.get("crop_size")
    ours = vars(get_profile(made["profile"], task, crop_size=crop))
    is_of_volumes = crop is not None and len(crop) == 3
    papers = vars(get_profile("paper", TASKS["prostate_3d"] if is_of_volumes else task))
    if is_of_volumes:  # "training parameters were kept the same" (A, appendix F)
        papers = papers | {"batch_size": TASKS["prostate"].batch_size}
    return _in_words(OF_A, ours | given, papers)


def deviations_of_volumes(made):
    """Return in words which settings of a run are not paper B's.

    Examples
    --------
    >>> made = {"profile": "paper", "settings": {"block_side": 64}}
    >>> deviations_of_volumes(made)
    'side of a block 64 (96)'
    """
    if made.get("profile") not in PROFILES:
        return ""
    ours = vars(get_volume_profile(made["profile"])) | made.get("settings", {})
    return _in_words(OF_B, ours, {field.name: field.default for field in fields(VolumeProfile)})


def _in_words(names, ours, papers):
    """What differs, as ``name ours (theirs)``."""
    pairs = {name: (_shown(ours[name]), _shown(papers[name])) for name in names}
    told = {name: (a, OPEN.get(name, b)) for name, (a, b) in pairs.items() if a != b}
    return ", ".join(f"{names[name]} {a} ({b})" for name, (a, b) in told.items())


def _shown(value):
    """A setting as text: sides with a cross between them."""
    return " x ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
