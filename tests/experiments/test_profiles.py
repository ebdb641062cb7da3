import pytest

from data_scripts.phantoms.folders import AMOUNTS
from segcal_lite.data.tasks import ORGAN_SETS, TASKS, organ_task
from segcal_lite.experiments.profiles import VOLUME_PROFILES, get_profile, get_volume_profile


@pytest.mark.parametrize("name", VOLUME_PROFILES)
def test_profiles_fit_their_network_and_grid(name):
    profile = get_volume_profile(name)
    assert profile.block_side % 2 ** (profile.n_stages - 1) == 0
    amount = AMOUNTS[name]
    assert profile.block_side <= amount.side
    assert 100 <= amount.side * amount.spacing_mm <= 106


def test_the_paper_profile_is_the_papers():
    paper = get_volume_profile("paper", n_features=None)  # as the profile says
    assert (paper.block_side, paper.overlap, paper.n_features) == (96, 24, 14)
    assert (paper.learning_rate, paper.rate_factor, paper.evaluate_every) == (1e-4, 0.9, 2000)
    assert (paper.n_flat_to_stop, paper.fine_tuning_factor) == (2, 0.5)
    assert (paper.dropout, paper.n_passes) == (0.1, 10)
    assert AMOUNTS["paper"].most_images >= max(organ.n_images for organ in ORGAN_SETS.values())


@pytest.mark.parametrize(("size_mm", "n_slices"), [(1.0, 8), (3.75, 2), (10.0, 1)])
def test_boxes_reach_8_mm_in_all_directions(size_mm, n_slices):
    assert organ_task("a", "MR", "liver", (1, 1, size_mm)).box_dilation_slices == n_slices


def test_intensities_follow_the_modality():
    assert organ_task("a", "MR", "liver", (1, 1, 1)).intensity_rule == "standard_deviation"
    with pytest.raises(ValueError, match="modality: found 'PET', expected one of 'CT', 'MR'"):
        organ_task("a", "PET", "liver", (1, 1, 1))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_side": 20}, "block_side: found 20, expected a multiple of 8, at least 16"),
        ({"block_side": 8}, "block_side: found 8, expected a multiple of 8, at least 16"),
        ({"overlap": 24}, "overlap: found 24, expected from 0 to below block_side = 24"),
        ({"n_stages": 3}, "n_stages: found 3"),
        ({"n_evaluations": 0}, "n_evaluations: found 0"),
        ({"epochs": 3}, "profile setting: found 'epochs', expected one of"),
        ({"learning_rate": "x"}, "learning_rate: found 'x', expected a number of at least"),
        ({"learning_rate": 0}, "learning_rate: found 0, expected a number of at least"),
        ({"learning_rate": True}, "learning_rate: found True"),
        ({"rate_factor": 1.5}, "rate_factor: found 1.5, expected a number from 1e-12 to 1"),
        ({"dropout": 0}, "dropout: found 0, expected a number from 0.01 to 0.99"),
        ({"dropout": 1.0}, "dropout: found 1.0, expected a number from 0.01 to 0.99"),
        ({"dice_epsilon": 0}, "dice_epsilon: found 0, expected a number of at least 1e-12"),
        ({"dice_epsilon": float("nan")}, "dice_epsilon: found nan, expected a number"),
        ({"noise": float("inf")}, "noise: found inf"),
        ({"foreground_share": [1]}, r"foreground_share: found \[1\]"),
        ({"overlap": -1}, "overlap: found -1, expected an integer of at least 0"),
        ({"overlap": 1.5}, "overlap: found 1.5"),
        ({"block_side": "24"}, "block_side: found '24'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        get_volume_profile("smoke", **changes)
    with pytest.raises(ValueError, match="profile: found 'tiny'"):
        get_volume_profile("tiny")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"crop_size": 32}, "crop_size: found 32, expected a list of 2 or more integers of at"),
        ({"crop_size": "[32, 32]"}, "crop_size: found '.32, 32.', expected a list"),
        ({"crop_size": [0, 0]}, "crop_size: found 0, expected an integer of at least 1"),
        ({"crop_size": (-32, 32)}, "crop_size: found -32"),
        ({"crop_size": [32, 32.0]}, "crop_size: found 32.0"),
        ({"crop_size": []}, r"crop_size: found \[\]"),
        ({"widths": [4, "8"]}, "widths: found '8'"),
        ({"ensemble_sizes": [True]}, "ensemble_sizes: found True"),
        ({"plateau_factor": 0}, "plateau_factor: found 0, expected a number from 1e-12 to 1"),
        ({"plateau_patience": 0}, "plateau_patience: found 0"),
        ({"early_stopping_patience": -1}, "early_stopping_patience: found -1"),
        ({"n_dropout_models": -1}, "n_dropout_models: found -1, expected an integer of at least 0"),
        ({"precision": "float16"}, "precision: found 'float16', expected one of 'float32'"),
    ],
)
def test_settings_of_papers_a_that_do_not_fit_are_refused(changes, message):
    with pytest.raises(ValueError, match=message):
        get_profile("smoke", TASKS["heart"], **changes)
