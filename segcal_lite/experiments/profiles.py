"""How much of a task is done: smoke, laptop or paper; epochs, members, sizes.

A run is one task under one profile. `Profile` is of paper A's networks, of slices or of whole
volumes; `VolumeProfile` is of paper B's, which see random blocks.
"""

from dataclasses import dataclass, fields, replace

from .._checks import check_choice, check_count, check_number, wrong_input
from ..training.models import PRECISIONS

COUNTS = (  # settings of at least 1
    *("n_epochs", "batch_size", "n_members", "n_resamples", "n_passes", "n_bins"),
    *("block_side", "n_features", "evaluate_every", "n_flat_to_stop"),
    *("n_evaluations", "n_validation_blocks", "early_stopping_patience", "plateau_patience"),
)
POSITIVE = 1e-12, float("inf")  # hardly above 0, and without a bound
NUMBERS = {  # settings between two numbers
    **dict.fromkeys(("plateau_factor", "rate_factor"), (POSITIVE[0], 1)),
    **dict.fromkeys(("learning_rate", "fine_tuning_factor", "dice_epsilon"), POSITIVE),
    "foreground_share": (0, 1),
    "dropout": (0.01, 0.99),  # without any, or with nothing else, passes would not differ
    **dict.fromkeys(("plateau_gain", "noise"), (0, POSITIVE[1])),
}
LISTS = {"crop_size": 2, "widths": 2, "ensemble_sizes": 1}  # of so many integers, at least


@dataclass(frozen=True)
class Profile:
    """How much of a task is done. Values without a remark, in `PROFILES` too, are the papers'."""

    name: str
    crop_size: tuple  # of the model's input, multiples of 16: in plane, or of whole volumes
    n_epochs: int  # at most
    early_stopping_patience: int  # epochs without a better validation Dice; A names no number
    batch_size: int
    n_members: int  # pool of independently trained models for each loss
    ensemble_sizes: tuple  # the M of the sweep; the pool holds at least twice the largest
    n_resamples: int  # ensembles drawn from the pool for each M
    n_dropout_models: int  # trained for MC dropout; A leaves their number open
    learning_rate: float = 0.005  # Adam's first
    plateau_factor: float = 0.5  # of the rate where Dice stays on a plateau; A: from 0.5 to 0.8
    plateau_patience: int = 10  # epochs in which validation Dice gains less than
    plateau_gain: float = 0.001
    widths: tuple = (8, 16, 32, 64, 128)  # channels of the encoder's blocks
    dropout: float = 0.5  # probability in the models for MC dropout
    dice_epsilon: float = 1.0  # smoothing of Eq. 2, in pixels; A prints no value
    n_passes: int = 50  # stochastic ones
    n_bins: int = 10  # of the reliability diagrams; A and B print none
    precision: str = "float32"  # of a training; "bfloat16" only where asked for


CROP_SIZES = {  # in-plane size by task; "other" for datasets of the user's own
    "smoke": {
        "prostate_3d": (32, 32, 16),
        "brain": (112, 112),
        "heart": (64, 64),
        "hippocampus": (64, 64),  # the published volumes are cropped to it
        "prostate": (112, 112),
        "other": (96, 96),
    },
    "laptop": {
        "prostate_3d": (48, 48, 32),
        "brain": (160, 160),
        "prostate": (160, 160),
        "other": (128, 128),
    },
    "paper": {"prostate_3d": (112, 112, 112), "other": (224, 224)},
}
# Voxel size of tasks that a profile does on a coarser grid than A.
COARSER_MM = {("smoke", "prostate_3d"): 3.0, ("laptop", "prostate_3d"): 2.0}
PROFILES = {
    "smoke": {
        "n_epochs": 6,
        "early_stopping_patience": 6,
        "batch_size": 4,
        "n_members": 6,
        "ensemble_sizes": (1, 2, 3),
        "n_resamples": 20,
        "n_dropout_models": 1,
        "n_passes": 10,
        "plateau_patience": 4,
    },
    "laptop": {
        "n_epochs": 40,
        "early_stopping_patience": 20,
        "plateau_patience": 6,
        "batch_size": 16,
        "n_members": 3,
        "ensemble_sizes": (1, 2, 5, 10),
        "n_resamples": 50,
        "n_dropout_models": 1,
    },
    "paper": {
        "n_epochs": 1000,
        "early_stopping_patience": 100,
        "n_members": 100,
        "ensemble_sizes": (1, 2, 5, 10, 25, 50),
        "n_resamples": 50,
        "n_dropout_models": 10,
    },
}


OF_THE_BRAIN = {"n_resamples": 10}  # in the paper
WHOLE_VOLUMES = {  # what differs where a sample is a volume: fewer in an epoch, two a mini-batch
    "smoke": {"n_epochs": 12, "n_members": 3, "batch_size": 2},
    "laptop": {"n_epochs": 60, "n_members": 3, "batch_size": 2},
    "paper": {"n_epochs": 1000, "n_members": 10, "batch_size": 2},  # A: ten a loss, batches of 16
}


@dataclass(frozen=True)
class VolumeProfile:
    """How much is done in 3D. Values without a remark, in `VOLUME_PROFILES` too, are B's."""

    name: str
    block_side: int = 96  # voxels of a cubic block
    overlap: int = 24  # voxels that neighbouring blocks share at inference
    n_features: int = 14  # channels of the first stage, and so length of the signature
    n_stages: int = 5  # of the network; ours
    batch_size: int = 2  # blocks of a mini-batch; B prints none
    learning_rate: float = 1e-4  # Adam's first
    rate_factor: float = 0.9  # of the rate after an evaluation without a smaller loss
    fine_tuning_factor: float = 0.5  # of the first rate in every further stage of a chain
    evaluate_every: int = 2000  # iterations
    n_flat_to_stop: int = 2  # consecutive evaluations without a smaller loss
    n_evaluations: int = 1000  # at most, n times as many for n sets; B has no such bound
    n_validation_blocks: int = 16  # a set, always the same; B does not say which loss it evaluates
    noise: float = 0.05  # of `random_blocks.block_transform`; B prints no level
    foreground_share: float = 0.0  # as in `random_blocks.block_transform`
    dropout: float = 0.1  # of the detector by uncertainty, which has its own model
    n_passes: int = 10  # of that model
    dice_epsilon: float = 1.0  # smoothing of the Dice loss, in voxels; B prints none
    n_bins: int = 10


VOLUME_PROFILES = {
    "smoke": {
        "block_side": 24,
        "overlap": 6,
        "n_features": 8,
        "n_stages": 4,
        "batch_size": 4,
        "learning_rate": 0.005,
        "evaluate_every": 15,
        "n_flat_to_stop": 3,  # after 15 iterations one flat evaluation says little
        "n_evaluations": 2,
        "n_validation_blocks": 8,
        "n_passes": 3,
    },
    "laptop": {
        "block_side": 32,
        "overlap": 8,
        "n_stages": 4,
        "learning_rate": 0.002,
        "evaluate_every": 200,
        "n_evaluations": 5,
    },
    "paper": {},
}


def task_for_profile(task, profile):
    """Return the task on the voxels that a profile has time for."""
    size_mm = COARSER_MM.get((profile, task.name))
    if size_mm is None:
        return task
    n_slices = max(1, round(task.box_dilation_mm / size_mm))
    return replace(task, spacing_mm=(size_mm,) * 3, box_dilation_slices=n_slices)


def get_profile(name, task, **overrides):
    """Return the `Profile` called `name` for `task`.

    Parameters
    ----------
    name : {"smoke", "laptop", "paper"}
    task : Task
    **overrides
        Fields of `Profile`; ``None`` means as the profile says.

    Returns
    -------
    Profile

    Raises
    ------
    ValueError
        If the profile, a field or a value does not exist or does not fit.

    Examples
    --------
    >>> from segcal_lite.data.tasks import TASKS
    >>> get_profile("paper", TASKS["prostate"], n_members=None).crop_size
    (224, 224)
    """
    crops = CROP_SIZES[check_choice("profile", name, tuple(PROFILES))]
    settings = {"crop_size": crops.get(task.name, crops["other"]), "batch_size": task.batch_size}
    given = given_settings(Profile, overrides)
    settings |= PROFILES[name] | (OF_THE_BRAIN if (name, task.name) == ("paper", "brain") else {})
    if len(given.get("crop_size", settings["crop_size"])) == 3:
        settings |= WHOLE_VOLUMES[name]
    profile = Profile(name=name, **(settings | given))
    if "ensemble_sizes" not in given:  # at most half of the pool
        largest = max(1, profile.n_members // 2)
        sizes = tuple(m for m in profile.ensemble_sizes if m <= largest)
        profile = replace(profile, ensemble_sizes=sizes)
    multiple = 2 ** (len(profile.widths) - 1)
    if len(profile.crop_size) not in (2, 3) or any(s % multiple for s in profile.crop_size):
        expected = f"two or three multiples of {multiple}"
        raise wrong_input("crop_size", profile.crop_size, expected)
    if profile.batch_size == 1 and set(profile.crop_size) == {multiple}:
        expected = f"at least 2 where crop_size is {profile.crop_size}: batch normalisation"
        raise wrong_input("batch_size", 1, expected)
    largest = max(profile.ensemble_sizes)
    if largest > 1 and 2 * largest > profile.n_members:
        expected = f"at most half of n_members = {profile.n_members}"
        raise wrong_input("ensemble_sizes", profile.ensemble_sizes, expected)
    return profile


def get_volume_profile(name, **overrides):
    """Return the `VolumeProfile` called `name`, with overrides and errors as in `get_profile`."""
    settings = VOLUME_PROFILES[check_choice("profile", name, tuple(VOLUME_PROFILES))]
    given = given_settings(VolumeProfile, overrides)
    profile = replace(VolumeProfile(name, **settings), **given)
    multiple = 2 ** (check_count("n_stages", profile.n_stages, 4) - 1)
    if profile.block_side % multiple or profile.block_side == multiple:
        expected = f"a multiple of {multiple}, at least {2 * multiple}"
        raise wrong_input("block_side", profile.block_side, expected)
    if not 0 <= profile.overlap < profile.block_side:
        expected = f"from 0 to below block_side = {profile.block_side}"
        raise wrong_input("overlap", profile.overlap, expected)
    return profile


def given_settings(kind, overrides):
    """Return the overrides of a kind of profile that say something, lists as tuples.

    Names that it lacks, and values of another type or out of range, are a ``ValueError``.
    """
    known = tuple(sorted({field.name for field in fields(kind)} - {"name"}))
    for key in overrides:
        check_choice("profile setting", key, known)
    given = {key: value for key, value in overrides.items() if value is not None}
    for name, value in given.items():
        if name in LISTS:
            given[name] = check_counts(name, value, LISTS[name])
        elif name in NUMBERS:
            given[name] = check_number(name, value, *NUMBERS[name])
        elif name == "precision":
            check_choice(name, value, PRECISIONS)
        else:
            check_count(name, value, 1 if name in COUNTS else 0)
    return given


def check_counts(name, values, least=1):
    """Return a list of `least` integers or more, each at least 1, as a tuple."""
    if not isinstance(values, (list, tuple)) or len(values) < least:
        raise wrong_input(name, repr(values), f"a list of {least} or more integers of at least 1")
    return tuple(check_count(name, value) for value in values)
