"""True shapes of the phantoms: patients of each task, drawn at random.

Patient axes in mm, the origin in the middle of the grid: x grows to the right, y to anterior, z to
superior; in the heart's short axis z grows from base to apex. Sizes are those of adults, except
that organs are short enough along z for a stack of few slices.
"""

from dataclasses import replace

import numpy as np

from segcal_lite._checks import check_choice

from .shapes import Anatomy, Boundary, Layer, StarShape


def draw_anatomy(task_name, rng):
    """Draw one patient.

    Parameters
    ----------
    task_name : {"brain", "heart", "prostate"}
        Whose labels are as in `tasks.TASKS`.
    rng : numpy.random.Generator
        Source of size, position, eccentricity, angle and waves.

    Returns
    -------
    Anatomy

    Raises
    ------
    ValueError
        For another task.

    Examples
    --------
    >>> heart = draw_anatomy("heart", np.random.default_rng(0))
    >>> [boundary.label for boundary in heart.boundaries]
    [3, 2, 1]
    """
    builders = {"brain": _brain, "heart": _heart, "prostate": _prostate}
    return builders[check_choice("task", task_name, tuple(builders))](rng)


def waves(rng, amplitude, orders=(2, 3, 4), twist=0.04):
    """Draw waves whose amplitudes fall with the order, `amplitude` at the first one."""
    return tuple(
        (m, amplitude * orders[0] / m * rng.uniform(0.5, 1), rng.uniform(0, 2 * np.pi), twist * t)
        for m, t in zip(orders, rng.uniform(-1, 1, len(orders)), strict=True)
    )


def disc(rng, x_mm, y_mm, z_mm, radius_mm, half_length_mm=np.inf):
    """Draw a roundish shape of about `radius_mm`."""
    axes_mm = tuple(radius_mm * rng.uniform(0.85, 1.15, 2))
    return StarShape((x_mm, y_mm, z_mm), axes_mm, half_length_mm, rng.uniform(0, np.pi))


def _polar(centre_mm, distance_mm, angle):
    """Return the point in plane at `distance_mm` from `centre_mm` in direction `angle`."""
    return centre_mm[0] + distance_mm * np.cos(angle), centre_mm[1] + distance_mm * np.sin(angle)


def _heart(rng):
    """Short axis: LV cavity in its myocardium, RV as the part of an ellipse that they leave."""
    centre_mm = (-18 + rng.uniform(-6, 6), rng.uniform(-5, 7), -2 + rng.uniform(-2, 2))
    radius_mm, wall_mm, half_mm = rng.uniform(22.5, 27.5), rng.uniform(7.5, 11), rng.uniform(26, 30)
    axes_mm = (radius_mm * rng.uniform(1.0, 1.1), radius_mm * rng.uniform(0.92, 1.0))
    lean, ends = tuple(rng.uniform(-0.12, 0.12, 2)), (10.0, 2.0)
    endo = StarShape(
        centre_mm, axes_mm, half_mm, rng.uniform(0, np.pi), lean, ends, waves(rng, 0.04)
    )
    # The wall closes the apex only: the base of both surfaces lies at the same height.
    epi = replace(
        endo.grown(wall_mm / 2),
        centre_mm=(*centre_mm[:2], centre_mm[2] + wall_mm / 2),
        semi_axes_mm=tuple(axis_mm + wall_mm for axis_mm in axes_mm),
        waves=waves(rng, 0.03),
    )
    towards_rv = rng.uniform(-0.6, 0.0)
    rv_xy = _polar(centre_mm, radius_mm + rng.uniform(10, 15), towards_rv)
    rv = StarShape(
        (*rv_xy, centre_mm[2] - 3),
        (rng.uniform(24, 29), rng.uniform(34, 40)),
        half_mm - rng.uniform(0, 3),
        towards_rv + rng.uniform(-0.2, 0.2),
        lean,
        ends,
        waves(rng, 0.05),
    )
    chest = StarShape(
        (-35, -15 + rng.uniform(-6, 6), 0), (102 + rng.uniform(-8, 8), 88), angle=-0.3
    )
    fat = StarShape((*_polar(centre_mm, 22, towards_rv), 0), (54, 41), 33, towards_rv)
    liver = StarShape(
        (10 + rng.uniform(-25, 25), -118, 0), (120, 74 + rng.uniform(-6, 6)), angle=0.1
    )
    layers = [
        *(Layer("fat", chest.grown(40)), Layer("muscle", chest.grown(8)), Layer("lung", chest)),
        Layer("liver", replace(liver, lean=(0, 0.2), waves=waves(rng, 0.05, (5, 6, 7)))),
        Layer("aorta", disc(rng, *rng.uniform((-58, -56), (-44, -46)), 0, 9)),
        Layer("fat", replace(fat, waves=waves(rng, 0.07, (3, 4, 5)))),
        *(Layer("myocardium", rv.grown(3)), Layer("RV blood", rv)),
    ]
    for angle in towards_rv + rng.uniform(-1.2, 1.2, 3):  # trabeculae of the RV
        xy = _polar(rv_xy, rng.uniform(14, 22), angle)
        layers.append(Layer("trabecula", disc(rng, *xy, rng.uniform(-20, 15), 3.0, 14)))
    layers += [Layer("myocardium", epi), Layer("LV blood", endo)]
    for angle in np.array([1.9, 4.1]) + rng.uniform(-0.4, 0.4, 2):  # the papillary muscles
        xy = _polar(centre_mm, 0.66 * radius_mm, angle)
        layers.append(Layer("trabecula", disc(rng, *xy, 4, rng.uniform(3.5, 5.5), 15)))
    boundaries = (
        Boundary(3, endo, 0.8, 2.6),
        Boundary(2, epi, 0.9, 2.8),
        Boundary(1, rv, 1.2, 3.0),
    )
    return Anatomy(boundaries, tuple(layers), correlation_mm=8.0)


def _brain(rng):
    """Tumour in one hemisphere: core in an enhancing rim in oedema, inside a head."""
    side = rng.choice([-1.0, 1.0])
    centre_mm = tuple(rng.uniform(-8, 8, 2)) + (rng.uniform(-2, 2),)
    head_xy = (centre_mm[0] - side * rng.uniform(28, 34), centre_mm[1] + rng.uniform(-22, 22))
    core_mm, rim_mm, oedema_mm = rng.uniform(6, 9), rng.uniform(3.5, 5.5), rng.uniform(5, 9)
    core = StarShape(
        centre_mm,
        (core_mm * rng.uniform(1, 1.3), core_mm * rng.uniform(0.8, 1)),
        rng.uniform(6, 9),
        rng.uniform(0, np.pi),
        waves=waves(rng, 0.14, (2, 3, 4, 5), 0.15),
    )
    rim = replace(core.grown(rim_mm), waves=waves(rng, 0.08, (2, 3, 4, 5), 0.15))
    whole = replace(
        core.grown(rim_mm + oedema_mm), lean=(0.1, -0.1), waves=waves(rng, 0.2, (2, 3, 4, 5), 0.1)
    )
    head = StarShape((*head_xy, 0), (rng.uniform(68, 73), rng.uniform(82, 90)))
    gyri = waves(rng, 0.05, (17, 23, 26), 0.15)
    layers = [
        *(Layer("scalp", head), Layer("skull", head.grown(-5)), Layer("CSF", head.grown(-10))),
        Layer("grey", replace(head.grown(-13), waves=waves(rng, 0.03, (19, 27, 31), 0.2))),
        Layer("white", replace(head.grown(-20), waves=gyri)),
    ]
    for _ in range(5):  # spots as of small-vessel disease, and vessels that take up contrast
        xy = _polar(head_xy, rng.uniform(10, 45), rng.uniform(0, 2 * np.pi))
        layers.append(Layer("cap", disc(rng, *xy, rng.uniform(-8, 8), rng.uniform(2, 4), 6)))
        xy = _polar(head_xy, rng.uniform(5, 55), rng.uniform(0, 2 * np.pi))
        layers.append(Layer("vessel", disc(rng, *xy, 0, 1.3)))
    for left in (-1.0, 1.0):
        pressed = 0.6 if left == side else 1.0  # the tumour narrows the ventricle beside it
        deep = StarShape((head_xy[0] + left * 16, head_xy[1] - 3, 0), (8, 15), angle=left * 0.35)
        horn_xy = head_xy[0] + left * 9 * pressed, head_xy[1] + 6
        horn = StarShape((*horn_xy, 0), (5 * pressed, 24), angle=left * -0.15)
        layers += [Layer("grey", deep), Layer("cap", horn.grown(2)), Layer("CSF", horn)]
    layers += [Layer("oedema", whole), Layer("enhancing", rim), Layer("core", core)]
    boundaries = (
        Boundary(1, core, 0.7, 1.5),
        Boundary(3, rim, 0.7, 1.5),
        Boundary(2, whole, 1.5, 3.0),
    )
    return Anatomy(boundaries, tuple(layers), correlation_mm=5.0)


def _prostate(rng):
    """Gland between bladder and rectum, which an endorectal balloon fills when shifted."""
    centre_mm = (rng.uniform(-2, 2), 4 + rng.uniform(-2, 2), rng.uniform(-1.5, 1.5))
    a_mm, b_mm, half_mm = rng.uniform(17.5, 22), rng.uniform(13, 16), rng.uniform(12, 16)
    lean = (rng.uniform(-0.05, 0.05), rng.uniform(-0.2, 0))
    gland = StarShape(
        centre_mm,
        (a_mm, b_mm),
        half_mm,
        rng.uniform(-0.1, 0.1),
        lean,
        (2.5, 2.5),
        waves(rng, 0.05),
    )
    back_mm, top_mm = centre_mm[1] - b_mm, centre_mm[2] + half_mm
    rectum = disc(rng, rng.uniform(-3, 3), back_mm - 9, 0, rng.uniform(8, 11))
    balloon = StarShape((rectum.centre_mm[0], back_mm - 13, 0), (21, 17))
    bladder = StarShape((0, centre_mm[1] + 8, top_mm + 9), (26, 19), 16, taper=(4, 2))
    zone = StarShape(
        (centre_mm[0], centre_mm[1] + 0.22 * b_mm, centre_mm[2] + 2),
        (0.66 * a_mm, 0.62 * b_mm),
        0.9 * half_mm,
        lean=lean,
        waves=waves(rng, 0.08),
    )
    pelvis = StarShape((0, -8, 0), (29, 42), waves=waves(rng, 0.03))
    layers = [
        *(Layer("muscle", pelvis.grown(22)), Layer("fat", pelvis.grown(5))),
        *(Layer("muscle", pelvis.grown(2.5)), Layer("fat", pelvis)),
        Layer("bone", StarShape((0, centre_mm[1] + b_mm + 16, -4), (17, 9))),
        Layer("muscle", rectum.grown(3), balloon.grown(2)),
        Layer("rectum", rectum, balloon),
    ]
    for angle in rng.uniform(0.3, 2.8, 5):  # veins around the gland
        xy = _polar(centre_mm, a_mm * rng.uniform(0.9, 1.05), angle)
        layers.append(Layer("vein", disc(rng, *xy, rng.uniform(-10, 10), rng.uniform(1.5, 3), 12)))
    layers += [Layer("muscle", bladder.grown(3)), Layer("bladder", bladder)]
    layers += [Layer("capsule", gland.grown(1)), Layer("peripheral", gland)]
    layers += [Layer("capsule", zone.grown(0.7)), Layer("transition", zone)]
    for _ in range(4):  # nodules, dark or bright, and one lesion that may touch the border
        xy = _polar(zone.centre_mm, 0.4 * a_mm * rng.uniform(0, 1), rng.uniform(0, 2 * np.pi))
        tissue = rng.choice(["nodule", "peripheral"])
        layers.append(Layer(str(tissue), disc(rng, *xy, rng.uniform(-8, 8), 3.2, 5)))
    xy = _polar(centre_mm, 0.75 * b_mm, rng.uniform(3.4, 6.0))
    layers.append(Layer("nodule", disc(rng, *xy, rng.uniform(-6, 6), rng.uniform(2.5, 4.5), 6)))
    front = (centre_mm[0], centre_mm[1] + 0.85 * b_mm, centre_mm[2])
    layers.append(
        Layer("stroma", StarShape(front, (0.4 * a_mm, 0.2 * b_mm), 0.7 * half_mm, lean=lean))
    )
    return Anatomy((Boundary(1, gland, 0.8, 2.5),), tuple(layers), correlation_mm=6.0)
