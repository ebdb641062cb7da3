import json

import nibabel as nib
import numpy as np
import pytest

from data_scripts.phantoms.draw import make_organ_phantom
from data_scripts.phantoms.looks import ORGAN_LOOKS
from data_scripts.phantoms.organ_anatomies import draw_organ
from data_scripts.phantoms.write import write_organ_phantoms
from segcal_lite.data.tasks import EIGHT_SETS, ORGAN_SETS, OTHER_ORGANS, THREE_AGES

NAMES = tuple(ORGAN_SETS)
COARSE = {"side": 24, "spacing_mm": 4.5}


@pytest.mark.parametrize("name", NAMES)
def test_each_set_has_its_organ_on_the_common_grid_with_an_exact_posterior(name):
    shares = []
    for seed in range(4):
        phantom = make_organ_phantom(name, seed, **COARSE)
        assert phantom.image.shape == (1, 24, 24, 24)
        assert np.isfinite(phantom.image).all()
        np.testing.assert_allclose(phantom.posterior.sum(axis=0), 1, atol=1e-6)
        sure = phantom.posterior.max(axis=0) > 0.999
        assert sure.any()
        agree = phantom.labels[sure] == phantom.posterior.argmax(axis=0)[sure]
        assert agree.mean() > 0.99
        shares.append(phantom.labels.mean())
        border = np.ones((24,) * 3, dtype=bool)
        border[1:-1, 1:-1, 1:-1] = False
        assert phantom.labels[border].mean() < 0.05  # the organ lies inside the field of view
    assert min(shares) > 0.003 and max(shares) < 0.15


@pytest.mark.parametrize("name", NAMES)
def test_every_tissue_that_is_painted_has_an_intensity(name):
    for seed in range(5):
        layers = draw_organ(name, np.random.default_rng(seed)).layers
        assert {layer.tissue for layer in layers} <= set(ORGAN_LOOKS[name].tissues)


@pytest.mark.parametrize("name", NAMES)
def test_ct_is_in_hounsfield_units_and_mr_is_a_magnitude(name):
    image = make_organ_phantom(name, 0, **COARSE).image
    if ORGAN_SETS[name].modality == "CT":
        assert image.min() < -800 and 300 < image.max() < 1500
    else:
        assert image.min() >= 0 and image.max() < 3


def test_noise_of_ct_is_gaussian_about_air():
    image = make_organ_phantom("liver_ct", 0, side=40, spacing_mm=3.0).image[0]
    air = image[:3, :3]  # a corner of the picture
    assert abs(air.mean() + 1000) < 5
    assert 15 < air.std() < 25


@pytest.mark.parametrize("name", THREE_AGES)
def test_the_cortical_plate_is_a_shell(name):
    phantom = make_organ_phantom(name, 1, side=42, spacing_mm=2.5)
    middle = phantom.labels[16:26, 16:26, 16:26]
    assert middle.mean() < 0.05
    assert phantom.posterior[0, 19:23, 19:23, 19:23].min() > 0.9


def test_folds_grow_with_age():
    """Surface for each volume of what the plate encloses, as a share of a smooth ball's."""
    crests = {}
    for name in THREE_AGES:
        (_, _), (_, pial) = ((b.label, b.shape) for b in _plate(name).boundaries)
        crests[name] = sum(abs(wave[1]) * wave[0] for wave in pial.waves)
    assert crests["cp_younger"] < crests["cp_older"] < crests["cp_newborn"]


def _plate(name):
    return draw_organ(name, np.random.default_rng(0))


def test_a_case_is_the_same_each_time_and_others_differ():
    first, again, other = (make_organ_phantom("spleen", seed, **COARSE) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.image, again.image)
    np.testing.assert_array_equal(first.labels, again.labels)
    assert (first.labels != other.labels).any()


def test_a_look_between_two_sequences_keeps_patient_and_labels():
    looks = [
        make_organ_phantom("liver_dual_in", 0, towards="liver_spir", strength=s, **COARSE)
        for s in (0.0, 0.5, 1.0)
    ]
    for phantom in looks[1:]:
        np.testing.assert_array_equal(phantom.labels, looks[0].labels)
    plain = make_organ_phantom("liver_dual_in", 0, **COARSE)
    np.testing.assert_array_equal(plain.image, looks[0].image)
    steps = [np.abs(phantom.image - plain.image).mean() for phantom in looks]
    assert 0 == steps[0] < steps[1] < steps[2]


def test_the_mixtures_of_the_paper_name_known_sets_and_hold_out_others():
    assert set(EIGHT_SETS) | set(OTHER_ORGANS) | {"cp_newborn"} == set(NAMES)
    assert not set(EIGHT_SETS) & set(OTHER_ORGANS)
    assert sum(organ.n_images for organ in ORGAN_SETS.values()) == 1155  # Table I


def test_written_sets_are_split_as_the_paper_and_do_not_depend_on_their_number(tmp_path):
    task = ORGAN_SETS["atrium"].task("atrium", (12.0,) * 3)
    for number in (5, 10):
        folder = tmp_path / str(number)
        write_organ_phantoms(folder, task, number, side=9, spacing_mm=12.0, seed=2)
    images = [nib.load(tmp_path / n / "imagesTr/atrium_002_0000.nii.gz") for n in ("5", "10")]
    np.testing.assert_array_equal(*(image.get_fdata() for image in images))
    rows = (tmp_path / "10" / "cases.csv").read_text().split()[1:]
    splits = [row.rsplit(",", 1)[1] for row in rows]
    assert [splits.count(s) for s in ("train", "validation", "test")] == [6, 1, 3]
    described = json.loads((tmp_path / "10" / "dataset.json").read_text())
    assert described["labels"] == {"background": 0, "left atrium": 1}
    with pytest.raises(ValueError, match="phantoms with .*strength = 0.0"):
        write_organ_phantoms(
            tmp_path / "10", task, 10, side=9, spacing_mm=12.0, seed=2, strength=0.5
        )


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "kidney"}, "set: found 'kidney', expected one of 'cp_younger'"),
        ({"side": 0}, "side: found 0"),
        ({"strength": 1.5}, "strength: found 1.5, expected a number from 0 to 1"),
        ({"towards": "kidney"}, "towards: found 'kidney'"),
        ({"towards": "atrium"}, "towards: found 'atrium', expected a set that shows the tissues"),
    ],
)
def test_wrong_arguments_are_refused_by_name(changes, message):
    arguments = {"name": "liver_spir", "seed": 0, **COARSE, **changes}
    with pytest.raises(ValueError, match=message):
        make_organ_phantom(**arguments)


def test_too_few_images_for_three_splits_are_refused(tmp_path):
    task = ORGAN_SETS["atrium"].task("atrium", (12.0,) * 3)
    with pytest.raises(ValueError, match="n_images: found 2, expected an integer of at least 3"):
        write_organ_phantoms(tmp_path / "set", task, 2)
