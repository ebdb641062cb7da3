from dataclasses import asdict

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from segcal_lite.experiments.profiles import get_volume_profile
from segcal_lite.training.models import BlockSettings, build_model
from segcal_lite.training.plans import (
    chain,
    check_plan,
    dedicated,
    joint,
    orders,
    plan_name,
    set_probabilities,
    short_plan_name,
)


def test_the_papers_example_of_sampling():
    np.testing.assert_allclose(set_probabilities([10, 100]), [0.24, 0.76], atol=0.005)


@given(st.lists(st.integers(1, 500), min_size=1, max_size=12))
def test_an_image_of_a_small_set_is_drawn_more_often_than_one_of_a_large_set(n_images):
    probabilities = set_probabilities(n_images)
    assert probabilities.sum() == pytest.approx(1)
    each = probabilities / n_images
    for a, b in zip(n_images, n_images[1:], strict=False):
        i, j = n_images.index(a), n_images.index(b)
        assert each[i] / each[j] == pytest.approx((b / a) ** 0.5)


@pytest.mark.parametrize("n_images", [[], [3, 0], [[1, 2]]])
def test_sets_without_images_are_refused(n_images):
    with pytest.raises(ValueError, match="n_images: found .* expected at least one image in each"):
        set_probabilities(n_images)


def test_joint_dedicated_and_transferred_models_are_one_kind_of_plan():
    assert joint("a", "b") == (("a", "b"),)
    assert dedicated("a") == joint("a")
    assert chain("a", "b", "c")[:1] == dedicated("a")
    names = {plan_name(p) for p in (joint("a", "b"), chain("a", "b"), chain("b", "a"))}
    assert len(names) == 3


def test_the_orders_of_chains_are_those_that_paper_b_prints():
    assert orders("younger", "older", "newborn") == [
        ("younger", "older", "newborn"),
        ("older", "younger", "newborn"),
        ("newborn", "younger", "older"),
    ]
    assert orders("a", "b", "c", "d")[1:] == [("b", "a", "c", "d"), ("d", "a", "b", "c")]
    assert orders("a") == []


def test_a_chain_of_one_set_and_plans_that_repeat_or_lack_sets_are_refused():
    with pytest.raises(
        ValueError, match=r"chain: found 1 set\(s\) \('a',\), expected at least two"
    ):
        chain("a")
    for plan in (((),), (("a", "a"),)):
        with pytest.raises(ValueError, match="plan: found .* each set once"):
            check_plan(plan)


@pytest.mark.parametrize("name", ["liver+tumour", "a-then-b", "a-then", "then-b", "a-Then-b", 1])
def test_names_of_sets_that_would_be_names_of_other_plans_are_refused(name):
    for plan in (dedicated, lambda name: joint("a", name), lambda name: chain("a", name)):
        with pytest.raises(ValueError, match="^set: found .*, expected a (name without|text)"):
            plan(name)


def test_long_mixes_have_folders_that_file_systems_take_and_that_differ():
    names = [f"Dataset{number:03d}_{'Organ' * 4}" for number in range(12)]
    plan, changed = joint(*names), joint(*names[:-1], "Dataset999")
    one, other = short_plan_name(plan), short_plan_name(changed)
    assert len(one) == 160 and one != other
    assert one.startswith("Dataset000_Organ")
    assert plan_name(plan) == "+".join(names)
    assert short_plan_name(chain("a", "b")) == plan_name(chain("a", "b"))
    for offset in ("", "a"):  # two bytes a letter, cut between letters and within one
        name = short_plan_name(joint(*(f"{offset}печень{number}" for number in range(20))))
        assert 158 <= len(name.encode()) <= 160
    name = plan_name(joint(*(f"печень{number}" for number in range(12))))
    assert short_plan_name(joint(*name.split("+"))) == name  # as it always was


def settings(plan, **changes):
    profile = get_volume_profile("smoke", n_features=2)
    data = {"a": "1", "b": "2", "c": "3"}
    return BlockSettings.gather(plan, data, profile, seed=0, **changes)


def test_fine_tuning_starts_at_half_the_rate():
    first, second = settings(dedicated("a")), settings(chain("a", "b"))
    assert second.first_rate == first.first_rate / 2
    assert second.sets == ("b",)


def test_settings_know_the_data_of_every_stage_and_of_no_other_set():
    assert settings(chain("a", "c")).data == {"a": "1", "c": "3"}
    assert asdict(settings(dedicated("a")))["plan"] == (("a",),)


def test_the_network_depends_on_the_seed_alone_and_has_dropout_when_asked():
    torch.manual_seed(5)
    models = [build_model(settings(dedicated("a"))) for _ in range(2)]
    for one, other in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.equal(one, other)
    rates = {
        layer.p
        for layer in build_model(settings(dedicated("a"), dropout=True)).modules()
        if isinstance(layer, torch.nn.Dropout)
    }
    assert rates == {0.1}
