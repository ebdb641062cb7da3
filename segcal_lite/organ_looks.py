"""How the sets of paper B look: CT in Hounsfield units, MR in arbitrary ones, by tissue.

The three sequences of the liver show one anatomy: SPIR is T2-weighted with fat suppressed, DUAL
are two T1-weighted echoes, with fat and water in phase and opposed. The numbers are ours; what
matters is that sets differ in contrast as their namesakes do.
"""

from .looks import Look, tissue_table

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
