import pytest

from segcal_lite.data.tasks import TASKS
from segcal_lite.experiments.profiles import PROFILES, get_profile


@pytest.mark.parametrize("name", PROFILES)
@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_every_profile_fits_every_task(name, task):
    profile = get_profile(name, task)
    assert profile.n_members >= 2 * max(profile.ensemble_sizes) or profile.ensemble_sizes == (1,)
    assert all(side % 16 == 0 for side in profile.crop_size)


def test_the_paper_profile_holds_the_papers_numbers():
    heart, prostate = (get_profile("paper", TASKS[name]) for name in ("heart", "prostate"))
    assert heart.crop_size == (224, 224)
    assert (heart.batch_size, prostate.batch_size) == (32, 16)
    assert (heart.learning_rate, heart.n_epochs, heart.plateau_patience) == (0.005, 1000, 10)
    assert (heart.dropout, heart.n_passes, heart.n_members) == (0.5, 50, 100)
    assert heart.ensemble_sizes == (1, 2, 5, 10, 25, 50)
    assert TASKS["heart"].dice_weights == (1, 3, 1)
    assert [TASKS[name].split for name in ("brain", "heart", "prostate")] == [
        (66, 22, 102),
        (40, 10, 50),
        (16, 4, 20),
    ]


def test_the_tasks_of_paper_b_are_one_organ_each_with_its_rule_of_intensities():
    of_a = ("brain", "heart", "prostate", "prostate_3d")
    of_b = {name: task for name, task in TASKS.items() if name not in of_a}
    assert len(of_b) == 8
    for task in of_b.values():
        assert task.n_classes == 2
        rule = "hounsfield" if task.channels == ("CT",) else "standard_deviation"
        assert task.intensity_rule == rule
        assert sum(task.split[:2]) / sum(task.split) == pytest.approx(0.7, abs=0.02)
    assert {TASKS[name].intensity_rule for name in ("brain", "heart", "prostate")} == {
        "percentiles"
    }


def test_an_explicit_value_wins_and_none_leaves_the_profile():
    profile = get_profile("smoke", TASKS["heart"], n_epochs=2, n_passes=None)
    assert profile.n_epochs == 2
    assert profile.n_passes == get_profile("smoke", TASKS["heart"]).n_passes


def test_a_smaller_pool_shortens_the_sweep():
    assert get_profile("smoke", TASKS["heart"], n_members=4).ensemble_sizes == (1, 2)
    assert get_profile("paper", TASKS["heart"], n_members=1).ensemble_sizes == (1,)


@pytest.mark.parametrize(
    ("setting", "value", "message"),
    [
        ("n_epochs", 0, "n_epochs: found 0, expected an integer of at least 1"),
        ("crop_size", (60, 64), "crop_size: found .* expected two or three multiples of 16"),
        ("ensemble_sizes", (1, 5), "ensemble_sizes: found .* expected at most half of n_members"),
        ("epochs", 3, "profile setting: found 'epochs', expected one of"),
    ],
)
def test_settings_that_do_not_fit_are_refused(setting, value, message):
    with pytest.raises(ValueError, match=message):
        get_profile("smoke", TASKS["heart"], **{setting: value})


def test_an_unknown_profile_is_refused():
    with pytest.raises(ValueError, match="profile: found 'fast', expected one of 'smoke'"):
        get_profile("fast", TASKS["heart"])
