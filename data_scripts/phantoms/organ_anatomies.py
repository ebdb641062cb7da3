"""True shapes of the sets of paper B: one organ each, in its surroundings.

Axes as in `anatomies`. All sets share one field of view of about 105 mm, so that no detector can
count voxels: organs are drawn to fit it, not to scale among each other. The abdomen is one anatomy
that four sets of liver, the spleen and the pancreas look at from different middles.
"""

from dataclasses import replace

import numpy as np

from segcal_lite._checks import check_choice

from .anatomies import disc, draw_anatomy, waves
from .looks import ORGAN_LOOKS
from .shapes import Anatomy, Boundary, Layer, StarShape

FOLDS = {  # mean radius in mm, orders of the folds, their amplitude, thickness of the plate in mm
    "cp_younger": (32.0, (3, 5, 7), 0.035, 5.5),
    "cp_older": (37.0, (6, 9, 11), 0.060, 5.0),
    "cp_newborn": (42.0, (9, 12, 15), 0.085, 4.5),
}


def draw_organ(name, rng):
    """Draw one patient of a set.

    Parameters
    ----------
    name : str
        A key of `looks.ORGAN_LOOKS`.
    rng : numpy.random.Generator
        Source of size, position, eccentricity, angle and waves.

    Returns
    -------
    Anatomy
        Label 1 is the organ; boundaries of label 0 cut holes.

    Raises
    ------
    ValueError
        For another set.

    Examples
    --------
    >>> plate = draw_organ("cp_newborn", np.random.default_rng(0))
    >>> [boundary.label for boundary in plate.boundaries]
    [0, 1]
    """
    check_choice("set", name, tuple(ORGAN_LOOKS))
    if name in FOLDS:
        return _cortical_plate(rng, *FOLDS[name])
    if name == "prostate":
        return draw_anatomy("prostate", rng)
    builders = {"atrium": _atrium, "hippocampus": _hippocampus}
    return builders[name](rng) if name in builders else _abdomen(rng, name)


def _cortical_plate(rng, radius_mm, orders, amplitude, thickness_mm):
    """A folded shell between cerebrospinal fluid and white matter, in a head."""
    centre_mm = tuple(rng.uniform(-3, 3, 3))
    radius_mm *= rng.uniform(0.93, 1.07)
    pial = StarShape(
        centre_mm,
        (radius_mm * rng.uniform(0.86, 0.94), radius_mm),
        0.85 * radius_mm,
        waves=waves(rng, amplitude, orders, twist=0.08),
    )
    inner = pial.grown(-thickness_mm)
    head = StarShape(centre_mm, (radius_mm + 6, radius_mm + 8), 0.85 * radius_mm + 7)
    deep_mm = 0.3 * radius_mm
    layers = [
        *(Layer("scalp", head.grown(5)), Layer("skull", head.grown(2)), Layer("CSF", head)),
        *(Layer("plate", pial), Layer("white", inner)),
    ]
    for side in (-1.0, 1.0):
        x_mm, y_mm, z_mm = centre_mm[0] + side * deep_mm, centre_mm[1], centre_mm[2]
        grey = StarShape((x_mm, y_mm - 2, z_mm), (0.17 * radius_mm, deep_mm), deep_mm, side * 0.3)
        horn = StarShape((x_mm * 0.6, y_mm + 4, z_mm + 3), (2.5, 0.4 * radius_mm), 0.25 * radius_mm)
        layers += [Layer("deep", grey), Layer("CSF", horn)]
    boundaries = (Boundary(0, inner, 0.7, 1.2), Boundary(1, pial, 0.6, 1.2))
    return Anatomy(boundaries, tuple(layers), correlation_mm=5.0)


def _abdomen(rng, name):
    """Body wall, spine, liver with vessels, spleen, stomach, pancreas, kidneys and bowel."""
    in_middle = {"spleen": (34.0, -8.0, 0.0), "pancreas": (2.0, -4.0, -12.0)}
    zoom = {"spleen": 1.5, "pancreas": 1.7}.get(name, 1.0)
    shift_mm = np.subtract(rng.uniform(-3, 3, 3), in_middle.get(name, (-6.0, 0.0, 0.0))) * zoom

    def solid(place_mm, axes_mm, half_mm=np.inf, angle=0.0, bumps=0.0, taper=(2.0, 2.0)):
        scales = zoom * rng.uniform(0.9, 1.1, 3)
        return StarShape(
            tuple(zoom * np.array(place_mm) + shift_mm + zoom * rng.uniform(-1.5, 1.5, 3)),
            (axes_mm[0] * scales[0], axes_mm[1] * scales[1]),
            half_mm * scales[2],
            angle + rng.uniform(-0.15, 0.15),
            taper=taper,
            waves=waves(rng, bumps) if bumps else (),
        )

    body = solid((0, -2, 0), (47, 34), angle=0.0)
    liver = solid((-19, 4, 4), (23, 19), 27, 0.4, bumps=0.10, taper=(2.0, 3.0))
    spleen = solid((32, -9, 2), (7.5, 12), 17, 0.5, bumps=0.08)
    pancreas = solid((3, -1, -12), (16, 4.2), 7.5, 0.35, bumps=0.16)
    layers = [
        *(Layer("skin", body.grown(4 * zoom)), Layer("fat", body.grown(2.5 * zoom))),
        *(Layer("muscle", body), Layer("fat", body.grown(-4 * zoom))),
        *(Layer("muscle", solid((side * 11, -24, 0), (8, 6))) for side in (-1, 1)),
        Layer("bone", solid((0, -22, 0), (8, 7.5))),
        *(Layer("lung", solid((side * 22, -6, 40), (19, 20), 17)) for side in (-1, 1)),
        *(Layer("kidney", solid((side * 21, -17, -19), (6, 8), 14)) for side in (-1, 1)),
        *(
            Layer("bowel", solid((*rng.uniform((-25, 0), (30, 20)), -24), (7, 6), 9))
            for _ in "1234"
        ),
        *(Layer("stomach", solid((17, 10, 5), (11, 9), 17, 0.5)), Layer("spleen", spleen)),
        *(Layer("liver", liver), Layer("pancreas", pancreas)),
        *(Layer("vessel", solid((x, -13, 0), (3.2, 3.2))) for x in (-5, 5)),
    ]
    for place_mm in rng.uniform((-27, -4, -6), (-10, 12, 14), (4, 3)):  # vessels of the liver
        layers.append(Layer("vessel", solid(place_mm, (1.8, 1.8), 9)))
    organ = {"spleen": spleen, "pancreas": pancreas}.get(name, liver)
    return Anatomy((Boundary(1, organ, 0.9, 2.2),), tuple(layers), correlation_mm=7.0)


def _atrium(rng):
    """Left atrium with the mouths of its veins, between lungs, aorta and ventricles."""
    centre_mm = tuple(rng.uniform(-4, 4, 3))
    atrium = StarShape(
        centre_mm,
        tuple(rng.uniform((17, 13), (22, 17))),
        rng.uniform(17, 22),
        rng.uniform(-0.3, 0.3),
        taper=(3.0, 2.5),
        waves=waves(rng, 0.12, (4, 3, 5)),
    )
    chest = StarShape((0, 4, 0), (60, 46))
    layers = [
        *(Layer("fat", chest.grown(6)), Layer("muscle", chest.grown(2)), Layer("lung", chest)),
        Layer("bone", disc(rng, *rng.uniform((-4, -40), (4, -36)), 0, 9)),
        Layer("blood", disc(rng, *rng.uniform((12, -26), (17, -23)), 0, 6.5)),
        Layer("fat", StarShape((centre_mm[0] - 2, centre_mm[1] + 12, 0), (38, 30))),
        Layer("myocardium", StarShape((16, 22, -14), (20, 17), 26, -0.5)),
        Layer("blood", StarShape((16, 22, -14), (12, 10), 20, -0.5)),
        Layer("blood", StarShape((-20, 18, -4), (15, 13), 22, rng.uniform(-0.3, 0.3))),
        Layer("myocardium", atrium.grown(2.2)),
    ]
    for angle in (0.3, 2.9, 3.6, 5.8):  # the four veins
        x_mm, y_mm = centre_mm[0] + 22 * np.cos(angle), centre_mm[1] + 16 * np.sin(angle)
        layers.append(Layer("blood", disc(rng, x_mm, y_mm, rng.uniform(-8, 8), 4.5, 6)))
    layers.append(Layer("atrium", atrium))
    return Anatomy((Boundary(1, atrium, 0.9, 2.5),), tuple(layers), correlation_mm=7.0)


def _hippocampus(rng):
    """A curved grey body in the temporal lobe, seen so near that tissue fills the picture."""
    centre_mm = tuple(rng.uniform(-5, 5, 3))
    lean = tuple(rng.uniform((-0.25, 0.1), (0.25, 0.4)))
    body = StarShape(
        centre_mm,
        tuple(rng.uniform((11, 7.5), (14, 10))),
        rng.uniform(28, 36),
        rng.uniform(-0.3, 0.3),
        lean,
        (3.0, 2.0),
        waves(rng, 0.12, (2, 3, 4), twist=0.06),
    )
    lobe = StarShape((0, 0, 0), (70, 66), waves=waves(rng, 0.05, (11, 14, 17), 0.1))
    horn_mm = (centre_mm[0] + 17, centre_mm[1] + 4, centre_mm[2])
    horn = StarShape(horn_mm, (4, 9), 30, lean=lean)
    layers = [Layer("grey", lobe.grown(14)), Layer("white", lobe)]
    for angle in rng.uniform(0, 2 * np.pi, 6):  # gyri around
        x_mm, y_mm = 40 * np.cos(angle), 38 * np.sin(angle)
        layers.append(Layer("grey", disc(rng, x_mm, y_mm, rng.uniform(-25, 25), 11, 24)))
    layers += [Layer("CSF", horn), Layer("grey", body.grown(3)), Layer("hippocampus", body)]
    layers.append(Layer("core", replace(body.grown(-4), lean=lean)))
    for place_mm in rng.uniform((-40, -40), (40, 40), (5, 2)):
        layers.append(Layer("vessel", disc(rng, *place_mm, 0, 1.6)))
    return Anatomy((Boundary(1, body, 0.8, 2.0),), tuple(layers), correlation_mm=5.0)
