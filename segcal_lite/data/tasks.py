"""What is segmented, and how the papers prepare it: tasks of A, and the twelve sets of B."""

from dataclasses import dataclass

from .._checks import check_choice

MODALITIES = {"CT": "hounsfield", "MR": "standard_deviation"}  # how B scales intensities
SPLIT = (60, 10, 30)  # B: 70 % for training and validation, 30 % for test


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
        batch_size=2,  # of volumes; A keeps that of its slices, 16, which takes a large GPU
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
class OrganSet:
    """One set of B: images of one modality in which one organ is segmented."""

    modality: str
    organ: str
    n_images: int  # as many as B has

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
