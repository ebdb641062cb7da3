"""How tissues look in the pictures of a domain: intensities, noise, bias field, texture.

In the shifted domain the heart and the brain have another contrast, more noise and blur and a
stronger bias field; the prostate has an endorectal coil, bright nearby, whose dark balloon fills
the rectum.
"""

from dataclasses import dataclass, fields

import numpy as np


@dataclass(frozen=True)
class Look:
    """How a task's pictures look in one domain.

    Attributes
    ----------
    tissues : dict
        Intensity of each tissue in each channel.
    noise : float
        Standard deviation of the real and of the imaginary part, in the units of the tissues.
    bias, texture : float
        Standard deviation of the logarithm of the slow gain; relative one of the grain.
    blur_mm : float
        Standard deviation of a Gaussian blur in plane, before the noise.
    near_field : float
        Extra gain at the surface of an endorectal coil.
    air : float
        Intensity of what is not painted, in every channel.
    is_magnitude : bool
        Noise of magnitude pictures (MR: Rician) or plain Gaussian noise (CT).
    """

    tissues: dict
    noise: float
    bias: float
    texture: float
    blur_mm: float = 0.0
    near_field: float = 0.0
    air: float = 0.0
    is_magnitude: bool = True


def tissue_table(names, *channels):
    """Return {tissue: intensities by channel} from one row of numbers a channel."""
    return dict(zip(names.split(","), np.transpose(channels).tolist(), strict=True))


HEART = "RV blood,LV blood,myocardium,trabecula,fat,muscle,lung,liver,aorta"
BRAIN = "scalp,skull,CSF,grey,white,cap,vessel,oedema,enhancing,core"
PROSTATE = "peripheral,transition,nodule,capsule,stroma,vein,fat,muscle,bone,rectum,bladder"
SOURCE = {
    "heart": Look(
        tissue_table(HEART, (0.74, 0.78, 0.36, 0.48, 0.70, 0.28, 0.08, 0.40, 0.75)),
        noise=0.05,
        bias=0.2,
        texture=0.10,
    ),
    "brain": Look(
        tissue_table(
            BRAIN,
            (0.80, 0.10, 0.18, 0.42, 0.52, 0.47, 0.90, 0.40, 0.72, 0.28),
            (0.55, 0.10, 0.92, 0.58, 0.44, 0.58, 0.20, 0.68, 0.58, 0.76),
            (0.50, 0.10, 0.14, 0.55, 0.46, 0.68, 0.30, 0.74, 0.66, 0.52),
        ),
        noise=0.05,
        bias=0.15,
        texture=0.06,
    ),
    "prostate": Look(
        tissue_table(PROSTATE, (0.62, 0.42, 0.30, 0.36, 0.22, 0.68, 0.50, 0.20, 0.30, 0.34, 0.90)),
        noise=0.05,
        bias=0.2,
        texture=0.12,
    ),
}
SHIFTED = {
    "heart": Look(
        tissue_table(HEART, (0.38, 0.36, 0.48, 0.44, 0.90, 0.45, 0.10, 0.62, 0.34)),
        noise=0.09,
        bias=0.4,
        texture=0.10,
        blur_mm=1.2,
    ),
    "brain": Look(
        tissue_table(
            BRAIN,
            (0.90, 0.10, 0.25, 0.60, 0.50, 0.56, 0.80, 0.60, 0.68, 0.40),
            (0.70, 0.10, 0.75, 0.66, 0.52, 0.62, 0.30, 0.60, 0.54, 0.68),
            (0.70, 0.10, 0.24, 0.48, 0.56, 0.66, 0.40, 0.68, 0.62, 0.42),
        ),
        noise=0.08,
        bias=0.3,
        texture=0.06,
        blur_mm=0.8,
    ),
    "prostate": Look(
        tissue_table(PROSTATE, (0.62, 0.42, 0.30, 0.36, 0.22, 0.68, 0.50, 0.20, 0.30, 0.02, 0.90)),
        noise=0.09,
        bias=0.4,
        texture=0.12,
        near_field=5.0,
    ),
}


def mixed_look(source, shifted, strength):
    """Interpolate every number of two looks: exactly `source` at 0, exactly `shifted` at 1.

    Examples
    --------
    >>> mixed_look(SOURCE["heart"], SHIFTED["heart"], 0.5).noise
    0.07
    """

    def mixed(a, b):
        return (1 - strength) * np.asarray(a) + strength * np.asarray(b)

    tissues = {name: mixed(source.tissues[name], shifted.tissues[name]) for name in source.tissues}
    names = [field.name for field in fields(Look)[1:-1]]
    numbers = (float(mixed(getattr(source, name), getattr(shifted, name))) for name in names)
    return Look(tissues, *numbers, source.is_magnitude)


BRAIN = "scalp,skull,CSF,plate,white,deep"
ABDOMEN = "skin,fat,muscle,bone,lung,liver,vessel,spleen,stomach,kidney,pancreas,bowel"
THORAX = "fat,muscle,lung,bone,blood,myocardium,atrium"
PELVIS = "peripheral,transition,nodule,capsule,stroma,vein,fat,muscle,bone,rectum,bladder"
TEMPORAL = "white,grey,CSF,hippocampus,core,vessel"

CT_ABDOMEN = {
    "early": (-20, -100, 55, 450, -750, 105, 165, 120, 25, 175, 85, 10),
    "late": (-20, -105, 60, 480, -780, 75, 210, 95, 15, 210, 70, 40),
}


def _ct(tissues, noise, texture=0.0):
    """Return the look of a CT: air at -1000, plain noise, no bias field."""
    return Look(tissues, noise, 0.0, texture, blur_mm=1.0, air=-1000.0, is_magnitude=False)


def _t2(scalp, skull, csf, plate, white, deep, noise):
    """Return the look of a T2-weighted brain; white matter darkens as it matures."""
    tissues = tissue_table(BRAIN, (scalp, skull, csf, plate, white, deep))
    return Look(tissues, noise, bias=0.12, texture=0.05)


def _liver_mr(*intensities, noise, bias, texture):
    """Return the look of one MR sequence of the abdomen."""
    return Look(tissue_table(ABDOMEN, intensities), noise, bias, texture)


ORGAN_LOOKS = {
    "cp_younger": _t2(0.45, 0.10, 0.95, 0.35, 0.72, 0.45, noise=0.06),
    "cp_older": _t2(0.45, 0.10, 0.95, 0.40, 0.66, 0.46, noise=0.05),
    "cp_newborn": _t2(0.50, 0.06, 1.00, 0.48, 0.74, 0.50, noise=0.03),
    "liver_ct": _ct(tissue_table(ABDOMEN, CT_ABDOMEN["early"]), noise=20.0),
    "pancreas": _ct(tissue_table(ABDOMEN, CT_ABDOMEN["late"]), noise=12.0, texture=0.015),
    "spleen": _ct(tissue_table(ABDOMEN, CT_ABDOMEN["late"]), noise=35.0),
    "liver_spir": _liver_mr(
        *(0.10, 0.08, 0.22, 0.15, 0.03, 0.32, 0.75, 0.62, 0.80, 0.70, 0.45, 0.55),
        noise=0.04,
        bias=0.30,
        texture=0.10,
    ),
    "liver_dual_in": _liver_mr(
        *(0.60, 0.90, 0.38, 0.30, 0.03, 0.55, 0.28, 0.36, 0.30, 0.33, 0.50, 0.38),
        noise=0.04,
        bias=0.15,
        texture=0.05,
    ),
    "liver_dual_out": _liver_mr(
        *(0.45, 0.70, 0.36, 0.18, 0.03, 0.50, 0.26, 0.36, 0.28, 0.33, 0.46, 0.34),
        noise=0.05,
        bias=0.15,
        texture=0.06,
    ),
    "atrium": Look(
        tissue_table(THORAX, (0.55, 0.25, 0.05, 0.20, 0.72, 0.35, 0.80)),
        noise=0.06,
        bias=0.25,
        texture=0.06,
    ),
    "prostate": Look(
        tissue_table(PELVIS, (0.62, 0.42, 0.30, 0.36, 0.22, 0.68, 0.50, 0.20, 0.30, 0.34, 0.90)),
        noise=0.05,
        bias=0.2,
        texture=0.12,
    ),
    "hippocampus": Look(
        tissue_table(TEMPORAL, (0.80, 0.52, 0.12, 0.56, 0.64, 0.95)),
        noise=0.05,
        bias=0.05,
        texture=0.08,
    ),
}
