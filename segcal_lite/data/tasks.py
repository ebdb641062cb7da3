"""Every setting of a task and of a profile, as frozen dataclasses.

A *task* is what is segmented: channels, segments, voxel size, class weights. A *profile* is how
much of it is done: epochs, members, sizes. A run is one task under one profile.
"""

from dataclasses import dataclass, fields, replace

from .._checks import check_choice, check_count, wrong_input


@dataclass(frozen=True)
class Task:
    """What is segmented, and how the papers prepare it.

    Attributes
    ----------
    name : str
    channels, segments : tuple of str
        Image channels; foreground classes (label k is ``segments[k - 1]``, 0 is background), or,
        with `regions`, overlapping regions of them.
    spacing_mm : tuple of three, float or None
        Voxel size of the model's grid; ``None`` keeps the size that the volume has.
    dice_weights : tuple of float
        Class weights of the Dice loss, one a segment.
    split : tuple of three int
        Patients for training, validation and test where the data brings no split.
    batch_size : int
        Slices a mini-batch in the paper.
    intensity_percentiles : tuple of two float
        By the rule of that name, those of a volume become 0 and 1. A says only that intensities
        lie in [0, 1]; (0, 100) is plain min-max.
    intensity_rule : {"percentiles", "hounsfield", "standard_deviation"}
        How intensities are scaled: `segcal_lite.data.preprocessing.prepare_image`.
    box_dilation_mm, box_dilation_slices : float, int
        How far boxes around the foreground reach, in plane and out of plane.
    regions : tuple of tuple of int
        Empty where classes exclude each other. Else the classes whose union each segment is:
        segments are binary problems that may overlap.
    region_order : tuple of int
        With `regions` the class that each leaves where no later one is predicted.
    """

    name: str
    channels: tuple
    segments: tuple
    spacing_mm: tuple
    dice_weights: tuple
    split: tuple
    batch_size: int = 32
    intensity_percentiles: tuple = (0.0, 100.0)
    intensity_rule: str = "percentiles"
    box_dilation_mm: float = 8.0
    box_dilation_slices: int = 2
    regions: tuple = ()
    region_order: tuple = ()

    @property
    def n_classes(self):
        """Number of classes K, background included; 2 with `regions`, in or out of each."""
        return 2 if self.regions else len(self.segments) + 1


def _one_organ(name, channel, segment, in_plane_mm, split):
    """A task of paper B in 2D: one foreground organ, 70 % for training and validation.

    B prints no voxel size; ours holds the organ and its surroundings in a crop of 224 pixels.
    """
    return Task(
        name=name,
        channels=(channel,),
        segments=(segment,),
        spacing_mm=(in_plane_mm, in_plane_mm, None),
        dice_weights=(1.0,),
        split=split,
        intensity_rule="hounsfield" if channel == "CT" else "standard_deviation",
    )


TASKS = {
    "brain": Task(
        name="brain",
        channels=("T1CE", "T2", "FLAIR"),
        segments=("non-enhancing", "oedema", "enhancing"),
        spacing_mm=(1.0, 1.0, 2.0),
        dice_weights=(1.0, 1.0, 1.0),
        split=(66, 22, 102),
    ),
    "heart": Task(
        name="heart",
        channels=("cine MR",),
        segments=("RV", "MYO", "LV"),
        spacing_mm=(2.0, 2.0, None),
        dice_weights=(1.0, 3.0, 1.0),  # A weighs the myocardium three times
        split=(40, 10, 50),
    ),
    "prostate": Task(
        name="prostate",
        channels=("T2",),
        segments=("prostate",),
        spacing_mm=(0.5, 0.5, None),
        dice_weights=(1.0,),
        split=(16, 4, 20),
        batch_size=16,
    ),
    "prostate_3d": Task(  # A's appendix: 1 mm, the same patients
        name="prostate_3d",
        channels=("T2",),
        segments=("prostate",),
        spacing_mm=(1.0, 1.0, 1.0),
        dice_weights=(1.0,),
        split=(16, 4, 20),
        batch_size=2,  # of volumes; A prints none
        box_dilation_slices=8,
    ),
    "left_atrium": _one_organ("left_atrium", "MR", "left atrium", 1.25, (12, 2, 6)),
    "hippocampus": _one_organ("hippocampus", "MR", "hippocampus", 1.0, (156, 26, 78)),
    "prostate_mr": _one_organ("prostate_mr", "T2", "prostate", 0.625, (19, 3, 10)),
    "pancreas": _one_organ("pancreas", "CT", "pancreas", 1.5, (168, 28, 85)),
    "spleen": _one_organ("spleen", "CT", "spleen", 1.5, (25, 4, 12)),
    "liver_ct": _one_organ("liver_ct", "CT", "liver", 1.5, (12, 2, 6)),
    "liver_mr": _one_organ("liver_mr", "MR", "liver", 1.5, (12, 2, 6)),
    "cortical_plate": _one_organ("cortical_plate", "MR", "cortical plate", 0.8, (240, 40, 120)),
}


@dataclass(frozen=True)
class Profile:
    """How much of a task is done. Values without a remark in `PROFILES` are the papers'.

    Attributes
    ----------
    name : str
    crop_size : tuple of two or three int
        Size of the model's input, multiples of 16: in plane for a network of slices, in all
        directions for one of volumes.
    n_epochs, early_stopping_patience : int
        Longest training; epochs without a better validation Dice after which it ends (A names an
        early-stopping policy without its patience).
    batch_size : int
    learning_rate, plateau_factor, plateau_patience, plateau_gain : float, float, int, float
        Adam's first rate; it is multiplied by the factor when validation Dice has not gained
        `plateau_gain` in `plateau_patience` epochs (A: a factor between 0.5 and 0.8).
    widths : tuple of int
        Channels of the encoder's blocks.
    dropout : float
        Probability in the models for MC dropout.
    dice_epsilon : float
        Smoothing of Eq. 2, in pixels; A prints no value.
    n_members : int
        Pool of independently trained models for each loss.
    ensemble_sizes : tuple of int
        The M of the sweep; the pool holds at least twice the largest.
    n_resamples : int
        Ensembles drawn from the pool for each M.
    n_dropout_models, n_passes : int
        Models trained for MC dropout (A leaves their number open); stochastic passes.
    n_bins : int
        Bins of the reliability diagrams; A and B print none.
    n_phantoms : tuple of four int
        Phantom patients for training, validation, test and shifted test.
    n_phantom_slices : int
    """

    name: str
    crop_size: tuple
    n_epochs: int
    early_stopping_patience: int
    batch_size: int
    n_members: int
    ensemble_sizes: tuple
    n_resamples: int
    n_dropout_models: int
    n_phantoms: tuple
    n_phantom_slices: int
    learning_rate: float = 0.005
    plateau_factor: float = 0.5
    plateau_patience: int = 10
    plateau_gain: float = 0.001
    widths: tuple = (8, 16, 32, 64, 128)
    dropout: float = 0.5
    dice_epsilon: float = 1.0
    n_passes: int = 50
    n_bins: int = 10


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
COARSER_MM = {  # voxel size of tasks that a profile does on a coarser grid than A
    ("smoke", "prostate_3d"): 3.0,
    ("laptop", "prostate_3d"): 2.0,
}

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
        "n_phantoms": (16, 6, 16, 16),
        "n_phantom_slices": 8,
    },
    "laptop": {
        "n_epochs": 40,
        "early_stopping_patience": 20,
        "plateau_patience": 6,
        "batch_size": 16,
        "n_members": 3,
        "ensemble_sizes": (1,),
        "n_resamples": 50,
        "n_dropout_models": 1,
        "n_phantoms": (40, 10, 50, 50),
        "n_phantom_slices": 10,
    },
    "paper": {
        "n_epochs": 1000,
        "early_stopping_patience": 100,
        "n_members": 100,
        "ensemble_sizes": (1, 2, 5, 10, 25, 50),
        "n_resamples": 50,
        "n_dropout_models": 10,
        "n_phantoms": (40, 10, 50, 50),
        "n_phantom_slices": 10,
    },
}


def task_for_profile(task, profile):
    """Return the task on the voxels that a profile has time for.

    Examples
    --------
    >>> task_for_profile(TASKS["prostate_3d"], "smoke").spacing_mm
    (3.0, 3.0, 3.0)
    """
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
    >>> get_profile("paper", TASKS["prostate"], n_members=None).crop_size
    (224, 224)
    """
    check_choice("profile", name, tuple(PROFILES))
    known = {field.name for field in fields(Profile)} - {"name"}
    for key in overrides:
        check_choice("profile setting", key, tuple(sorted(known)))
    crops = CROP_SIZES[name]
    settings = {"crop_size": crops.get(task.name, crops["other"]), "batch_size": task.batch_size}
    profile = Profile(name=name, **(settings | PROFILES[name]))
    given = {key: value for key, value in overrides.items() if value is not None}
    given |= {key: tuple(value) for key, value in given.items() if isinstance(value, list)}
    if "n_members" in given and "ensemble_sizes" not in given:
        largest = max(1, given["n_members"] // 2)
        given["ensemble_sizes"] = tuple(m for m in profile.ensemble_sizes if m <= largest)
    profile = replace(profile, **given)
    _check_profile(profile)
    return profile


def _check_profile(profile):
    """Refuse counts below 1, sides that the U-Net cannot halve and sweeps larger than the pool."""
    for name in ("n_epochs", "batch_size", "n_members", "n_resamples", "n_passes", "n_bins"):
        check_count(name, getattr(profile, name))
    multiple = 2 ** (len(profile.widths) - 1)
    if len(profile.crop_size) not in (2, 3) or any(s % multiple for s in profile.crop_size):
        expected = f"two or three multiples of {multiple}"
        raise wrong_input("crop_size", profile.crop_size, expected)
    largest = max(profile.ensemble_sizes)
    if largest > 1 and 2 * largest > profile.n_members:
        expected = f"at most half of n_members = {profile.n_members}"
        raise wrong_input("ensemble_sizes", profile.ensemble_sizes, expected)
