import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from segcal_lite.losses import (
    class_logits,
    cross_entropy_loss,
    inverse_frequency_weights,
    n_outputs,
    soft_dice_loss,
    training_loss,
)
from segcal_lite.unet import UNet


def random_batch(seed, n_outputs, n_classes=4, shape=(2, 5, 3)):
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(shape[0], n_outputs, *shape[1:], generator=generator)
    return logits, torch.randint(0, n_classes, shape, generator=generator)


def test_cross_entropy_is_equation_1_pixel_by_pixel():
    logits, labels = random_batch(0, 4)
    weights = torch.tensor([0.2, 1.0, 3.0, 0.5])
    probs = logits.softmax(dim=1)
    total = 0.0
    for b, i, j in np.ndindex(*labels.shape):
        k = labels[b, i, j]
        total -= float(weights[k] * torch.log(probs[b, k, i, j]))
    expected = total / labels.numel()  # by pixels, not by their weights
    assert float(cross_entropy_loss(logits, labels, weights)) == pytest.approx(expected, rel=1e-5)


def test_dice_is_equation_2_with_sums_over_the_mini_batch():
    logits, labels = random_batch(1, 3)
    probs, weights, epsilon = torch.sigmoid(logits), np.array([1.0, 3.0, 1.0]), 2.0
    expected = 0.0
    for k in range(3):
        p, y = probs[:, k].numpy(), labels.numpy() == k + 1
        expected -= 2 * weights[k] / weights.sum() * (p * y).sum() / ((p + y).sum() + epsilon)
    loss = soft_dice_loss(probs, labels, torch.tensor(weights), epsilon)
    assert float(loss) == pytest.approx(expected, rel=1e-5)


def test_dice_of_a_perfect_and_of_a_useless_prediction():
    labels = torch.tensor([[0, 1, 2, 2]])
    perfect = torch.tensor([[[0.0, 1, 0, 0], [0, 0, 1, 1]]])
    assert float(soft_dice_loss(perfect, labels, epsilon=0.0)) == -1
    assert float(soft_dice_loss(torch.zeros(1, 2, 4), labels)) == 0


def test_ce_dice_is_the_sum_of_both_on_the_softmax():
    logits, labels = random_batch(2, 4)
    weights = torch.ones(4)
    both = training_loss(logits, labels, "ce_dice", ce_weights=weights)
    dice = soft_dice_loss(logits.softmax(1)[:, 1:], labels)
    assert torch.allclose(both, cross_entropy_loss(logits, labels, weights) + dice)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(1, 10_000), min_size=2, max_size=6))
def test_inverse_frequency_weights_give_each_class_the_same_total(counts):
    weights = inverse_frequency_weights(counts).double()
    totals = weights * torch.tensor(counts, dtype=torch.float64)
    assert torch.allclose(totals, totals[0].expand_as(totals), rtol=1e-5)
    assert float(totals.sum() / sum(counts)) == pytest.approx(1, rel=1e-5)


def test_a_class_without_a_pixel_has_no_inverse_frequency():
    with pytest.raises(ValueError, match=r"no pixel of class \[1\]"):
        inverse_frequency_weights([10, 0])


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 10_000), st.integers(2, 5))
def test_class_probabilities_are_sigmoids_given_at_most_one_active_class(seed, n_classes):
    logits, _ = random_batch(seed, n_classes - 1, n_classes)
    probs = class_logits(logits, "dice").softmax(dim=1)
    sigmoids = torch.sigmoid(logits)
    joint = [torch.prod(1 - sigmoids, dim=1)]  # nothing is active
    for k in range(n_classes - 1):
        others = torch.cat([sigmoids[:, :k], sigmoids[:, k + 1 :]], dim=1)
        joint.append(sigmoids[:, k] * torch.prod(1 - others, dim=1))
    joint = torch.stack(joint, dim=1)
    assert torch.allclose(probs, joint / joint.sum(dim=1, keepdim=True), atol=1e-5)
    assert torch.allclose(probs.sum(dim=1), torch.ones_like(probs[:, 0]), atol=1e-5)


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_every_output_channel_receives_gradient(loss):
    torch.manual_seed(0)
    model = UNet(1, n_outputs(loss, 4), widths=(4, 8))
    logits = model(torch.rand(2, 1, 8, 8))
    training_loss(logits, torch.randint(0, 4, (2, 8, 8)), loss).backward()
    assert (model.output.weight.grad.flatten(1).abs().sum(dim=1) > 0).all()


def test_wrong_names_and_shapes_are_refused():
    with pytest.raises(ValueError, match="loss: found 'focal', expected one of 'ce', 'dice'"):
        n_outputs("focal", 2)
    with pytest.raises(ValueError, match="foreground_probs"):
        soft_dice_loss(torch.zeros(1, 1, 4), torch.zeros(1, 5, dtype=int))
