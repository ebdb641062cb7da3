"""Phantom cases: the picture, what it leaves alone, and the dataset on disk."""

import json
import shutil
from dataclasses import replace

import nibabel as nib
import numpy as np
import pandas as pd
import pytest
from scipy.stats import spearmanr

from data_scripts.phantoms import draw, looks, pictures, write
from data_scripts.phantoms.anatomies import draw_anatomy
from data_scripts.phantoms.annotators import smooth_field
from data_scripts.phantoms.draw import make_phantom
from data_scripts.phantoms.shapes import Layer, StarShape
from data_scripts.phantoms.write import write_phantoms
from segcal_lite.data.datasets import read_dataset
from segcal_lite.data.tasks import TASKS

SIZES = {"brain": (112, 112), "heart": (64, 64), "prostate": (112, 112)}
SMALL = {"n_train": 2, "n_validation": 1, "n_test": 1, "n_shifted": 2, "size": (20, 16)}


@pytest.fixture
def without_pictures(monkeypatch):
    """Skip the pictures, on which labels and posterior do not depend."""

    def blank(task_name, layers, axes_mm, spacing_mm, shift_strength, rng):
        return np.zeros((1, *map(len, axes_mm)), dtype=np.float32)

    monkeypatch.setattr(draw, "take_picture", blank)


@pytest.mark.parametrize("name", SIZES)
def test_shapes_types_and_geometry(name):
    task = TASKS[name]
    case = make_phantom(task, 0, size=(24, 20), n_slices=3)
    assert case.image.shape == (len(task.channels), 24, 20, 3)
    assert case.posterior.shape == (task.n_classes, 24, 20, 3)
    assert case.labels.shape == (24, 20, 3)
    assert (case.image.dtype, case.labels.dtype) == (np.float32, np.uint8)
    assert case.posterior.dtype == np.float32
    assert np.isfinite(case.image).all()
    assert case.image.min() >= 0
    np.testing.assert_allclose(case.posterior.sum(axis=0), 1, atol=1e-6)
    assert case.spacing_mm[:2] == task.spacing_mm[:2]
    assert case.spacing_mm[2] == {"brain": 2.0, "heart": 8.0, "prostate": 3.6}[name]
    np.testing.assert_allclose(nib.affines.voxel_sizes(case.affine), case.spacing_mm)
    assert nib.aff2axcodes(case.affine) == ("R", "A", "S")
    np.testing.assert_allclose(case.affine @ [11.5, 9.5, 1, 1], [0, 0, 0, 1], atol=1e-12)


@pytest.mark.parametrize("name", SIZES)
def test_the_seed_decides_everything(name):
    first, again, other = (make_phantom(TASKS[name], s, size=(32, 32)) for s in (4, 4, 5))
    for field in ("image", "labels", "posterior"):
        np.testing.assert_array_equal(getattr(first, field), getattr(again, field))
    assert np.any(first.posterior != other.posterior)
    assert np.any(first.image != other.image)


@pytest.mark.parametrize("name", SIZES)
def test_only_the_picture_changes_with_the_strength_and_it_does_so_gradually(name):
    source, *shifted = (
        make_phantom(TASKS[name], 1, s, SIZES[name], 4) for s in (0.0, 0.001, 0.25, 0.5, 1.0)
    )
    change = []
    for case in shifted:
        np.testing.assert_array_equal(case.labels, source.labels)
        np.testing.assert_array_equal(case.posterior, source.posterior)
        change.append(np.abs(case.image - source.image).mean())
    assert change == sorted(change)
    assert change[0] < 0.005  # continuous at 0
    assert change[-1] > 0.05  # a tenth of a tissue's brightness, or about that


@pytest.mark.parametrize("name", SIZES)
def test_strength_0_is_the_source_bit_for_bit(name, monkeypatch):
    source = make_phantom(TASKS[name], 2, size=(32, 32))
    strange = replace(looks.SHIFTED[name], noise=9.0, blur_mm=30.0, near_field=50.0)
    monkeypatch.setitem(looks.SHIFTED, name, strange)
    np.testing.assert_array_equal(
        source.image, make_phantom(TASKS[name], 2, 0.0, size=(32, 32)).image
    )
    assert np.any(source.image != make_phantom(TASKS[name], 2, 0.5, size=(32, 32)).image)


@pytest.mark.parametrize("name", SIZES)
def test_a_larger_grid_shows_the_same_shape_with_more_around_it(name, without_pictures):
    small = make_phantom(TASKS[name], 3, size=(40, 30), n_slices=4).posterior
    large = make_phantom(TASKS[name], 3, size=(64, 64), n_slices=8).posterior
    np.testing.assert_allclose(large[:, 12:52, 17:47, 2:6], small, atol=1e-6)


def test_shape_labels_and_picture_have_streams_of_their_own(monkeypatch):
    before = make_phantom(TASKS["heart"], 6, size=(24, 24))
    with monkeypatch.context() as patch:
        patch.setattr(draw, "annotate", lambda *a: np.zeros((24, 24, 8), np.uint8))
        other_labels = make_phantom(TASKS["heart"], 6, size=(24, 24))
    monkeypatch.setattr(draw, "take_picture", lambda *a: None)
    no_picture = make_phantom(TASKS["heart"], 6, size=(24, 24))
    np.testing.assert_array_equal(before.image, other_labels.image)
    np.testing.assert_array_equal(before.posterior, other_labels.posterior)
    np.testing.assert_array_equal(before.labels, no_picture.labels)
    np.testing.assert_array_equal(before.posterior, no_picture.posterior)


PLAUSIBLE_ML = {  # by label; a tumour and a gland are cut by the eight slices
    "heart": {1: (60, 220), 2: (60, 190), 3: (60, 200)},
    "brain": {1: (0.3, 8), 2: (3, 50), 3: (1, 20)},
    "prostate": {1: (10, 35)},
}


@pytest.mark.parametrize("name", SIZES)
def test_every_class_is_in_every_case_in_a_plausible_volume(name, without_pictures, monkeypatch):
    monkeypatch.setattr(draw, "posterior", lambda *a: np.zeros(1))  # not looked at here
    size = {"brain": (84, 84), "heart": (64, 64), "prostate": (92, 92)}[name]
    for seed in range(50):
        case = make_phantom(TASKS[name], seed, size=size)
        volumes_ml = np.bincount(case.labels.ravel()) * np.prod(case.spacing_mm) / 1000
        for label, (lowest, highest) in PLAUSIBLE_ML[name].items():
            assert lowest < volumes_ml[label] < highest, (seed, label)


def test_labels_agree_with_the_posterior_far_from_boundaries(without_pictures):
    case = make_phantom(TASKS["heart"], 8)
    certain = case.posterior.max(axis=0) > 0.9999
    assert certain.mean() > 0.5
    most_probable = case.posterior.argmax(axis=0)
    assert np.mean(case.labels[certain] != most_probable[certain]) < 1e-3
    unsure = case.posterior.max(axis=0) < 0.6
    assert 0.2 < np.mean(case.labels[unsure] == most_probable[unsure]) < 0.8


@pytest.mark.parametrize("name", SIZES)
def test_every_tissue_of_an_anatomy_has_a_brightness_in_both_domains(name):
    used = {x.tissue for seed in range(10) for x in draw_anatomy(name, _rng(seed)).layers}
    for of_domain in (looks.SOURCE, looks.SHIFTED):
        assert used == set(of_domain[name].tissues)
        lengths = {len(values) for values in of_domain[name].tissues.values()}
        assert lengths == {len(TASKS[name].channels)}


def _rng(seed):
    return np.random.default_rng(seed)


def bare(task_name, monkeypatch, **changes):
    """Remove texture, bias, noise and blur from the source look, but for `changes`."""
    plain = {"noise": 0.0, "bias": 0.0, "texture": 0.0, **changes}
    monkeypatch.setitem(looks.SOURCE, task_name, replace(looks.SOURCE[task_name], **plain))


DISC = StarShape((0.0, 0.0, 0.0), (10.0, 10.0))


def picture(layers, axes_mm, spacing_mm, strength=0.0, task_name="heart"):
    look = looks.mixed_look(looks.SOURCE[task_name], looks.SHIFTED[task_name], strength)
    return pictures.take_picture(look, layers, axes_mm, spacing_mm, strength, _rng(0))[0]


def test_partial_volume_is_linear_over_one_voxel_at_the_edge(monkeypatch):
    bare("heart", monkeypatch)
    x_mm = np.array([0.0, 9.0, 9.5, 10.0, 10.75, 11.0, 20.0])
    image = picture([Layer("fat", DISC)], (x_mm, np.zeros(1), np.zeros(1)), (2.0, 2.0, 1.0))
    fat = looks.SOURCE["heart"].tissues["fat"][0]
    np.testing.assert_allclose(image.ravel() / fat, [1, 1, 0.75, 0.5, 0.125, 0, 0], atol=1e-6)


def test_a_thick_slice_shows_the_average_over_its_thickness(monkeypatch):
    bare("heart", monkeypatch)
    axes_mm = np.zeros(1), np.zeros(1), np.array([0.0, 4.5, 9.0])
    layer = Layer("fat", StarShape((0.0, 0.0, 0.0), (10.0, 10.0), 3.2, taper=(60.0, 60.0)))
    image = picture([layer], axes_mm, (2.0, 2.0, 9.0)) / looks.SOURCE["heart"].tissues["fat"][0]
    # Slabs of 3 mm lie at -3, 0, 3 around the middle: all three, one and none are in the shape.
    np.testing.assert_allclose(image.ravel(), [1, 1 / 3, 0], atol=1e-6)


def test_later_layers_cover_earlier_ones(monkeypatch):
    bare("heart", monkeypatch)
    layers = [Layer("fat", DISC), Layer("muscle", DISC)]
    image = picture(layers, (np.zeros(1),) * 3, (2.0, 2.0, 1.0))
    assert image.item() == pytest.approx(looks.SOURCE["heart"].tissues["muscle"][0])


def test_noise_is_rician(monkeypatch):
    bare("heart", monkeypatch, noise=0.05)
    axes_mm = np.linspace(-40, 40, 200), np.linspace(-40, 40, 200), np.zeros(1)
    image = picture([Layer("fat", DISC)], axes_mm, (0.4, 0.4, 1.0))
    rho_mm = np.hypot(*np.meshgrid(*axes_mm[:2]))[..., None]
    air, fat = image[rho_mm > 11], image[rho_mm < 9]
    # Without signal the magnitude is Rayleigh distributed; with much of it nearly Gaussian.
    assert air.mean() == pytest.approx(0.05 * np.sqrt(np.pi / 2), rel=0.02)
    signal = looks.SOURCE["heart"].tissues["fat"][0]
    assert np.mean(fat**2) == pytest.approx(signal**2 + 2 * 0.05**2, rel=0.01)
    assert fat.std() == pytest.approx(0.05, rel=0.05)


def test_bias_field_is_smooth_and_multiplies(monkeypatch):
    bare("heart", monkeypatch, bias=0.2)
    axes_mm = np.arange(-100.0, 101, 4), np.arange(-100.0, 101, 4), np.zeros(1)
    everywhere = Layer("fat", StarShape((0.0, 0.0, 0.0), (900.0, 900.0)))
    gain = picture([everywhere], axes_mm, (4.0, 4.0, 1.0)) / 0.7
    assert 0.05 < np.log(gain).std() < 0.4
    assert np.abs(np.diff(np.log(gain), axis=0)).max() < 0.08
    muscle = Layer("muscle", everywhere.shape)
    ratio = picture([muscle], axes_mm, (4.0, 4.0, 1.0)) / picture(
        [everywhere], axes_mm, (4.0, 4.0, 1.0)
    )
    np.testing.assert_allclose(ratio, 0.28 / 0.70, rtol=1e-5)


def test_texture_multiplies_and_has_the_stated_spread(monkeypatch):
    bare("heart", monkeypatch, texture=0.1)
    axes_mm = np.arange(-100.0, 101, 4), np.arange(-100.0, 101, 4), np.zeros(1)
    everywhere = Layer("fat", StarShape((0.0, 0.0, 0.0), (900.0, 900.0)))
    image = picture([everywhere], axes_mm, (4.0, 4.0, 1.0))
    assert (image / 0.7).std() == pytest.approx(0.1, rel=0.1)


def test_the_coil_is_dark_inside_and_bright_nearby():
    gap = []
    for strength in (0.0, 1.0):
        case = make_phantom(TASKS["prostate"], 1, strength, (112, 112), 4)
        gland = case.posterior[1] > 0.99
        rows = np.broadcast_to(np.arange(112)[None, :, None], gland.shape)
        back = rows[gland].min()
        near = case.image[0][gland & (rows < back + 12)].mean()
        far = case.image[0][gland & (rows > rows[gland].max() - 12)].mean()
        balloon = case.image[0][50:62, 2:10, 1:3].mean()
        gap.append((near / far, balloon / near))
    assert gap[1][0] > 1.4 * gap[0][0]
    assert gap[1][1] < 0.25 * gap[0][1]


@pytest.mark.parametrize("name", SIZES)
def test_picture_shows_the_shape_within_the_noise(name):
    """Pictures of the source domain carry the boundary: brightness follows the posterior."""
    case = make_phantom(TASKS[name], 3, 0.0, SIZES[name], 4)
    label = {"heart": 3, "brain": 2, "prostate": 1}[name]
    p = case.posterior[label]
    edge = (p > 0.01) & (p < 0.99)
    edge &= case.posterior[0] + p > 0.99 if name != "heart" else case.posterior[2] + p > 0.99
    assert spearmanr(p[edge], case.image[-1][edge]).statistic > 0.25


def test_writes_a_dataset_that_reads_back(tmp_path):
    folder = write_phantoms(tmp_path / "new" / "brain", TASKS["brain"], **SMALL, n_slices=3)
    assert folder == tmp_path / "new" / "brain"
    assert [p.name for p in folder.parent.iterdir()] == ["brain"]
    description = json.loads((folder / "dataset.json").read_text())
    assert description["channel_names"] == {"0": "T1CE", "1": "T2", "2": "FLAIR"}
    assert description["labels"] == {
        "background": 0,
        "non-enhancing": 1,
        "oedema": 2,
        "enhancing": 3,
    }
    assert (description["numTraining"], description["file_ending"]) == (6, ".nii.gz")
    table = pd.read_csv(folder / "cases.csv")
    assert list(table.columns) == ["case", "domain", "split"]
    assert list(table.case) == [f"brain_{i:03d}" for i in range(1, 7)]
    assert list(table.domain) == ["source"] * 4 + ["shifted"] * 2
    assert list(table.split) == ["train"] * 2 + ["validation"] + ["test"] * 3
    assert len(list((folder / "imagesTr").iterdir())) == 18
    case = make_phantom(TASKS["brain"], (0, 3, 1), 1.0, (20, 16), 3)  # the last shifted one
    for number in range(3):
        stored = nib.load(folder / "imagesTr" / f"brain_006_{number:04d}.nii.gz")
        np.testing.assert_array_equal(stored.get_fdata(), case.image[number])
        np.testing.assert_allclose(stored.affine, case.affine)
        assert stored.get_data_dtype() == np.float32
    stored = nib.load(folder / "labelsTr" / "brain_006.nii.gz")
    np.testing.assert_array_equal(stored.get_fdata(), case.labels)
    stored = nib.load(folder / "posteriorsTr" / "brain_006.nii.gz")
    np.testing.assert_array_equal(np.moveaxis(stored.get_fdata(), 3, 0), case.posterior)
    dataset = read_dataset(folder, task="brain")
    assert len(dataset.cases) == 6


def test_source_cases_do_not_depend_on_how_many_there_are_nor_on_the_shift(tmp_path):
    few = write_phantoms(tmp_path / "few", TASKS["heart"], **SMALL, shift_strength=0.5)
    more = {**SMALL, "n_train": 3, "n_shifted": 0}
    more = write_phantoms(tmp_path / "more", TASKS["heart"], **more)

    def image(folder, name):
        return nib.load(folder / "imagesTr" / f"{name}_0000.nii.gz").get_fdata()

    np.testing.assert_array_equal(image(few, "heart_002"), image(more, "heart_002"))
    np.testing.assert_array_equal(image(few, "heart_004"), image(more, "heart_005"))
    halfway = make_phantom(TASKS["heart"], (0, 3, 0), 0.5, (20, 16)).image[0]
    np.testing.assert_array_equal(image(few, "heart_005"), halfway)
    cases = [image(few, f"heart_{i:03d}") for i in range(1, 7)]
    assert len({case.tobytes() for case in cases}) == 6


def test_the_same_settings_leave_a_folder_untouched(tmp_path):
    folder = write_phantoms(tmp_path / "heart", TASKS["heart"], **SMALL)
    before = {p: p.stat().st_mtime_ns for p in folder.rglob("*")}
    write_phantoms(folder, TASKS["heart"], **SMALL)
    assert {p: p.stat().st_mtime_ns for p in folder.rglob("*")} == before


@pytest.mark.parametrize(
    "change", [{"seed": 1}, {"shift_strength": 0.5}, {"n_test": 2}, {"size": (16, 16)}]
)
def test_other_settings_are_refused_by_name(tmp_path, change):
    (name,) = change
    folder = write_phantoms(tmp_path / "heart", TASKS["heart"], **SMALL)
    with pytest.raises(ValueError, match=f"found phantoms with {name} = .*, expected {name} = "):
        write_phantoms(folder, TASKS["heart"], **{**SMALL, **change})


def test_another_task_is_refused_even_on_the_same_grid(tmp_path):
    folder = write_phantoms(tmp_path / "heart", TASKS["heart"], **SMALL)
    with pytest.raises(ValueError, match="task = 'heart'.*expected task = 'prostate'"):
        write_phantoms(folder, TASKS["prostate"], **SMALL)


def test_foreign_folders_are_refused_and_empty_ones_filled(tmp_path):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("do not overwrite")
    with pytest.raises(ValueError, match="mine: found something else than phantoms"):
        write_phantoms(tmp_path / "mine", TASKS["heart"], **SMALL)
    assert (tmp_path / "mine" / "thesis.txt").exists()
    (tmp_path / "a_file").write_text("")
    with pytest.raises(ValueError, match="a_file: found something else than phantoms"):
        write_phantoms(tmp_path / "a_file", TASKS["heart"], **SMALL)
    (tmp_path / "empty").mkdir()
    assert (write_phantoms(tmp_path / "empty", TASKS["heart"], **SMALL) / "cases.csv").exists()


def test_an_interrupted_writer_leaves_nothing(tmp_path, monkeypatch):
    def stop(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(write, "_write_case", stop)
    with pytest.raises(KeyboardInterrupt):
        write_phantoms(tmp_path / "heart", TASKS["heart"], **SMALL)
    assert list(tmp_path.iterdir()) == []


def test_two_writers_of_the_same_phantoms_agree(tmp_path, monkeypatch):
    folder, other = tmp_path / "heart", tmp_path / "other"
    write_phantoms(other, TASKS["heart"], **SMALL)

    def slower(aside, task, settings, cases):
        shutil.copytree(other, aside)
        shutil.copytree(other, folder)  # the other process finishes first

    monkeypatch.setattr(write, "_write_dataset", slower)
    assert write_phantoms(folder, TASKS["heart"], **SMALL) == folder
    assert sorted(p.name for p in tmp_path.iterdir()) == ["heart", "other"]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"seed": -1}, "seed: found -1"),
        ({"seed": 0.5}, "seed: found 0.5"),
        ({"seed": (0, -2)}, "seed: found -2"),
        ({"shift_strength": 1.1}, "shift_strength: found 1.1, expected a number from 0 to 1"),
        ({"shift_strength": -0.1}, "shift_strength: found -0.1"),
        ({"shift_strength": float("nan")}, "shift_strength: found nan"),
        ({"shift_strength": "1"}, "shift_strength: found '1'"),
        ({"size": (64,)}, r"size: found \(64,\)"),
        ({"size": (64, 0)}, "size: found 0"),
        ({"n_slices": 0}, "n_slices: found 0"),
        ({"task": replace(TASKS["heart"], name="liver")}, "task: found 'liver'"),
    ],
)
def test_wrong_arguments_are_refused_by_name(changes, message, tmp_path):
    arguments = {"task": TASKS["heart"], "seed": 0, **changes}
    with pytest.raises(ValueError, match=message):
        make_phantom(**arguments)
    with pytest.raises(ValueError, match="seed" if "seed" in changes else message):
        write_phantoms(tmp_path / "heart", **arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    "changes", [{"n_train": 0}, {"n_validation": 0}, {"n_test": 0}, {"n_shifted": -1}]
)
def test_splits_without_a_case_are_refused(changes, tmp_path):
    ((name, value),) = changes.items()
    with pytest.raises(ValueError, match=f"{name}: found {value}"):
        write_phantoms(tmp_path / "heart", TASKS["heart"], **changes)


def test_texture_field_is_the_annotators_smooth_field():
    """One definition of smooth noise serves labels and pictures."""
    assert pictures.smooth_field is smooth_field
