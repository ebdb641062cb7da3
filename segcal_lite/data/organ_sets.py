"""The twelve sets of paper B (Table I), and how much is done with them: profiles in 3D."""

from dataclasses import dataclass, fields, replace

from .._checks import check_choice, check_count, wrong_input
from .tasks import Task

MODALITIES = {"CT": "hounsfield", "MR": "standard_deviation"}  # how B scales intensities
SPLIT = (60, 10, 30)  # B: 70 % for training and validation, 30 % for test


@dataclass(frozen=True)
class OrganSet:
    """One set of B: images of one modality in which one organ is segmented.

    Attributes
    ----------
    modality : {"CT", "MR"}
    organ : str
    n_images : int
        As many as B has.
    """

    modality: str
    organ: str
    n_images: int

    def task(self, name, spacing_mm):
        """Return the set as a task of one channel and one segment on voxels of `spacing_mm`."""
        return organ_task(name, self.modality, self.organ, spacing_mm)


ORGAN_SETS = {
    "cp_younger": OrganSet("MR", "cortical plate", 27),
    "cp_older": OrganSet("MR", "cortical plate", 15),
    "cp_newborn": OrganSet("MR", "cortical plate", 400),
    "liver_ct": OrganSet("CT", "liver", 19),
    "liver_spir": OrganSet("MR", "liver", 20),
    "liver_dual_in": OrganSet("MR", "liver", 20),
    "liver_dual_out": OrganSet("MR", "liver", 20),
    "atrium": OrganSet("MR", "left atrium", 20),
    "prostate": OrganSet("MR", "prostate", 32),
    "pancreas": OrganSet("CT", "pancreas", 281),
    "hippocampus": OrganSet("MR", "hippocampus", 260),
    "spleen": OrganSet("CT", "spleen", 41),
}
# The mixtures that B trains on in its three experiments on OOD detection, and what is held out.
EIGHT_SETS = (
    "cp_younger",
    "cp_older",
    "prostate",
    "atrium",
    "liver_ct",
    "liver_spir",
    "liver_dual_in",
    "liver_dual_out",
)
OTHER_ORGANS = ("pancreas", "hippocampus", "spleen")
THREE_AGES = ("cp_younger", "cp_older", "cp_newborn")


def organ_task(name, modality, organ, spacing_mm):
    """Return a task of one channel and one segment; intensities as B scales the modality.

    Examples
    --------
    >>> organ_task("liver_ct", "CT", "liver", (2.0, 2.0, 2.0)).intensity_rule
    'hounsfield'
    """
    return Task(
        name=name,
        channels=(modality,),
        segments=(organ,),
        spacing_mm=tuple(spacing_mm),
        dice_weights=(1.0,),
        split=SPLIT,
        box_dilation_slices=max(1, round(8 / spacing_mm[2])),  # 8 mm, as in plane
        intensity_rule=MODALITIES[check_choice("modality", modality, tuple(MODALITIES))],
    )


@dataclass(frozen=True)
class VolumeProfile:
    """How much is done in 3D. Values without a remark in `VOLUME_PROFILES` are B's or its default.

    Attributes
    ----------
    name : str
    block_side, overlap : int
        Voxels of a cubic block; voxels that neighbouring blocks share at inference.
    n_features, n_stages : int
        Channels of the first stage, and so length of the signature; stages of the network.
    batch_size : int
        Blocks of a mini-batch; B prints none.
    learning_rate, rate_factor, fine_tuning_factor : float
        Adam's first rate; its factor after an evaluation without a smaller loss; the factor of the
        first rate in every further stage of a chain.
    evaluate_every, n_flat_to_stop : int
        Iterations between two evaluations; consecutive ones without a smaller loss that end it.
    n_evaluations : int
        Most evaluations of a model of one set; one of n sets may have n times as many, so that all
        look at a set about equally often. B has no such bound.
    n_validation_blocks : int
        Blocks a set whose loss is evaluated, the same every time; B does not say which loss it is.
    noise, foreground_share : float
        As in `blocks.block_transform`; B prints no noise level and draws positions at random.
    dropout, n_passes : float, int
        Of the detector by uncertainty, which has its own model.
    dice_epsilon : float
        Smoothing of the Dice loss, in voxels; B prints none.
    n_bins : int
    most_images : int
        Phantoms a set: as many as B has images, at most so many.
    phantom_side, phantom_spacing_mm : int, float
        Grid of all phantoms.
    """

    name: str
    block_side: int = 96
    overlap: int = 24
    n_features: int = 14
    n_stages: int = 5
    batch_size: int = 2
    learning_rate: float = 1e-4
    rate_factor: float = 0.9
    fine_tuning_factor: float = 0.5
    evaluate_every: int = 2000
    n_flat_to_stop: int = 2
    n_evaluations: int = 1000
    n_validation_blocks: int = 16
    noise: float = 0.05
    foreground_share: float = 0.0
    dropout: float = 0.1
    n_passes: int = 10
    dice_epsilon: float = 1.0
    n_bins: int = 10
    most_images: int = 400
    phantom_side: int = 104
    phantom_spacing_mm: float = 1.0


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
        "most_images": 14,
        "phantom_side": 28,
        "phantom_spacing_mm": 3.75,
    },
    "laptop": {
        "block_side": 32,
        "overlap": 8,
        "n_stages": 4,
        "batch_size": 2,
        "learning_rate": 0.002,
        "evaluate_every": 200,
        "n_evaluations": 5,
        "n_validation_blocks": 16,
        "most_images": 40,
        "phantom_side": 56,
        "phantom_spacing_mm": 1.875,
    },
    "paper": {},
}


COUNTS = (  # settings of at least 1
    "block_side",
    "n_features",
    "batch_size",
    "evaluate_every",
    "n_flat_to_stop",
    "n_evaluations",
    "n_validation_blocks",
    "n_passes",
    "n_bins",
)


def get_volume_profile(name, **overrides):
    """Return the `VolumeProfile` called `name`.

    Parameters
    ----------
    name : {"smoke", "laptop", "paper"}
    **overrides
        Fields of `VolumeProfile`; ``None`` means as the profile says.

    Returns
    -------
    VolumeProfile

    Raises
    ------
    ValueError
        If the profile, a field or a value does not exist or does not fit.

    Examples
    --------
    >>> get_volume_profile("paper", n_features=None).n_features
    14
    """
    check_choice("profile", name, tuple(VOLUME_PROFILES))
    known = tuple(sorted({field.name for field in fields(VolumeProfile)} - {"name"}))
    for key in overrides:
        check_choice("profile setting", key, known)
    given = {key: value for key, value in overrides.items() if value is not None}
    profile = replace(VolumeProfile(name, **VOLUME_PROFILES[name]), **given)
    for key in COUNTS:
        check_count(key, getattr(profile, key))
    multiple = 2 ** (check_count("n_stages", profile.n_stages, 4) - 1)
    if profile.block_side % multiple or profile.block_side == multiple:
        expected = f"a multiple of {multiple}, at least {2 * multiple}"
        raise wrong_input("block_side", profile.block_side, expected)
    if not 0 <= profile.overlap < profile.block_side:
        expected = f"from 0 to below block_side = {profile.block_side}"
        raise wrong_input("overlap", profile.overlap, expected)
    return profile
