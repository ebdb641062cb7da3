"""True shapes: signed distances by hand, plausible sizes, room in the field of view."""

import numpy as np
import pytest

from data_scripts.phantoms.anatomies import draw_anatomy
from data_scripts.phantoms.shapes import Boundary, StarShape
from segcal_lite.data.tasks import TASKS

TASK_NAMES = ("brain", "heart", "prostate")
ELLIPSE = StarShape((10.0, -5.0, 2.0), (6.0, 3.0), 8.0, angle=np.pi / 6)


def draw(task_name, seed):
    return draw_anatomy(task_name, np.random.default_rng(seed))


def test_distance_along_the_axes_of_an_ellipse():
    along, across = np.array([np.cos(np.pi / 6), np.sin(np.pi / 6)]), np.array([-0.5, 3**0.5 / 2])
    for rho_mm in (0.5, 2.0, 9.0):
        x_mm, y_mm = np.array([10.0, -5.0]) + rho_mm * along
        assert ELLIPSE.signed_distance(x_mm, y_mm, 2.0) == pytest.approx(6 - rho_mm)
        x_mm, y_mm = np.array([10.0, -5.0]) + rho_mm * across
        assert ELLIPSE.signed_distance(x_mm, y_mm, 2.0) == pytest.approx(3 - rho_mm)


def test_distance_is_0_on_an_oblique_point_of_the_ellipse():
    t = np.linspace(0, 2 * np.pi, 9)
    x_mm, y_mm = 6 * np.cos(t), 3 * np.sin(t)
    cos, sin = np.cos(np.pi / 6), np.sin(np.pi / 6)
    on_it = 10 + cos * x_mm - sin * y_mm, -5 + sin * x_mm + cos * y_mm
    np.testing.assert_allclose(ELLIPSE.signed_distance(*on_it, 2.0), 0, atol=1e-12)


def test_distance_is_finite_at_the_centre_line():
    assert 3 <= ELLIPSE.signed_distance(10.0, -5.0, 2.0) <= 6


def test_taper_beyond_and_lean():
    shape = StarShape((0.0, 0.0, 0.0), (10.0, 10.0), 5.0, lean=(0.5, -1.0), taper=(4.0, 2.0))
    z_mm = np.array([-4.0, 4.0, -5.0, 5.0, -7.0, 8.0])
    radius_mm = [10 * np.sqrt(1 - 0.8**4), 10 * np.sqrt(1 - 0.8**2), 0, 0, -2, -3]
    on_axis = shape.signed_distance(0.5 * z_mm, -1.0 * z_mm, z_mm)
    np.testing.assert_allclose(on_axis, radius_mm, atol=1e-7)
    beside = shape.signed_distance(0.5 * z_mm + 3, -1.0 * z_mm, z_mm)
    np.testing.assert_allclose(beside, np.array(radius_mm) - 3, atol=1e-7)


def test_waves_modulate_the_radius_with_theta_and_twist_with_z():
    shape = StarShape((0.0, 0.0, 0.0), (10.0, 10.0), waves=((5, 0.2, 0.3, 0.7), (2, 0.1, 1.0, 0.0)))
    theta = np.linspace(-3, 3, 7)
    for z_mm in (0.0, 4.0):
        waves = 0.2 * np.cos(5 * theta + 0.3 + 0.7 * z_mm) + 0.1 * np.cos(2 * theta + 1.0)
        found = shape.signed_distance(2 * np.cos(theta), 2 * np.sin(theta), z_mm)
        np.testing.assert_allclose(found, 10 * (1 + waves) - 2, rtol=1e-12)


def test_grown_moves_every_surface_by_the_margin():
    grown = ELLIPSE.grown(2.0)
    assert grown.semi_axes_mm == (8.0, 5.0)
    assert grown.half_length_mm == 10.0
    assert grown.centre_mm == ELLIPSE.centre_mm


def test_near_never_leaves_out_a_height_at_which_the_shape_is():
    z_mm = np.linspace(-30, 30, 121)
    inside = ELLIPSE.signed_distance(10.0, -5.0, z_mm) > 0
    near = np.array([ELLIPSE.near(z, 0.0) for z in z_mm])
    np.testing.assert_array_equal(near[inside], True)
    assert not near[np.abs(z_mm - 2) > 8].any()
    assert ELLIPSE.near(12.0, 2.0)
    assert not ELLIPSE.near(12.1, 2.0)


def test_spread_grows_towards_both_ends_and_stays_beyond():
    boundary = Boundary(1, ELLIPSE, 1.0, 3.0)
    z_mm = np.array([2.0, 6.0, -6.0, 10.0, -40.0])
    np.testing.assert_allclose(boundary.sigma_mm(z_mm), [1.0, 1.5, 3.0, 3.0, 3.0])


@pytest.mark.parametrize("task_name", TASK_NAMES)
def test_the_seed_decides_and_patients_differ(task_name):
    assert draw(task_name, 5) == draw(task_name, 5)
    shapes = {draw(task_name, seed).boundaries[-1].shape for seed in range(20)}
    assert len(shapes) == 20
    for attribute in ("semi_axes_mm", "angle", "centre_mm"):
        assert len({getattr(shape, attribute) for shape in shapes}) == 20


@pytest.mark.parametrize("task_name", TASK_NAMES)
def test_boundaries_give_every_label_of_the_task_once(task_name):
    labels = [boundary.label for boundary in draw(task_name, 0).boundaries]
    assert sorted(labels) == list(range(1, TASKS[task_name].n_classes))


@pytest.mark.parametrize("task_name", TASK_NAMES)
def test_spread_is_larger_at_the_ends_than_in_the_middle(task_name):
    for boundary in draw(task_name, 0).boundaries:
        assert boundary.sigma_end_mm > 1.5 * boundary.sigma_mid_mm > 0


@pytest.mark.parametrize(
    ("task_name", "half_width_mm"), [("heart", 64), ("prostate", 28), ("brain", 56)]
)
def test_organs_lie_inside_a_small_field_of_view(task_name, half_width_mm):
    """The field of 64 x 64 (heart) or 112 x 112 voxels holds every boundary whole."""
    edge = np.linspace(-half_width_mm, half_width_mm, 60)
    rim = np.full(60, half_width_mm)
    x_mm = np.concatenate([edge, edge, rim, -rim])[:, None]
    y_mm = np.concatenate([rim, -rim, edge, edge])[:, None]
    for seed in range(30):
        for boundary in draw(task_name, seed).boundaries:
            assert boundary.shape.signed_distance(x_mm, y_mm, np.linspace(-40, 40, 30)).max() < 0


@pytest.mark.parametrize("task_name", TASK_NAMES)
def test_slices_beyond_an_organ_hold_none_of_it(task_name):
    x_mm = np.linspace(-80, 80, 81)
    for boundary in draw(task_name, 1).boundaries:
        shape = boundary.shape
        for side in (-1, 1):
            z_mm = shape.centre_mm[2] + side * (shape.half_length_mm + 0.01)
            assert shape.signed_distance(x_mm[:, None], x_mm, z_mm).max() < 0


def test_radii_stay_positive_under_all_waves():
    for task_name in TASK_NAMES:
        for seed in range(20):
            anatomy = draw(task_name, seed)
            for shape in [layer.shape for layer in anatomy.layers]:
                assert sum(wave[1] for wave in shape.waves) < 0.9


def test_the_cavity_is_wrapped_in_myocardium_between_base_and_apex():
    theta = np.linspace(0, 2 * np.pi, 60)
    for seed in range(30):
        endo, epi, _ = (boundary.shape for boundary in draw("heart", seed).boundaries)
        for u in (-0.8, 0.0, 0.8):
            rise_mm = u * endo.half_length_mm
            middle = [
                c + lean * rise_mm for c, lean in zip(endo.centre_mm, endo.lean, strict=False)
            ]

            def on_ray(rho_mm, middle=middle):
                return middle[0] + rho_mm * np.cos(theta), middle[1] + rho_mm * np.sin(theta)

            z_mm = endo.centre_mm[2] + rise_mm
            radius_mm = 1 + endo.signed_distance(*on_ray(1.0), z_mm)
            assert np.abs(endo.signed_distance(*on_ray(radius_mm), z_mm)).max() < 1e-9
            assert epi.signed_distance(*on_ray(radius_mm), z_mm).min() > 3.5


def test_the_wall_ends_at_the_base_where_the_cavity_does():
    endo, epi, _ = (boundary.shape for boundary in draw("heart", 3).boundaries)
    base_mm = endo.centre_mm[2] - endo.half_length_mm
    assert epi.centre_mm[2] - epi.half_length_mm == pytest.approx(base_mm)
    assert epi.centre_mm[2] + epi.half_length_mm > endo.centre_mm[2] + endo.half_length_mm + 6


def test_only_the_prostate_has_tissue_that_moves_with_the_shift():
    moved = {name: [x for x in draw(name, 0).layers if x.shifted] for name in TASK_NAMES}
    assert not moved["brain"]
    assert not moved["heart"]
    assert [layer.tissue for layer in moved["prostate"]] == ["muscle", "rectum"]
    labelled = [boundary.shape for boundary in draw("prostate", 0).boundaries]
    assert all(layer.shape not in labelled for layer in moved["prostate"])


def test_an_unknown_task_is_refused():
    with pytest.raises(ValueError, match="task: found 'liver', expected one of 'brain', 'heart'"):
        draw("liver", 0)
