import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn import functional

from segcal_lite.losses import (
    LOSSES,
    class_logits,
    cross_entropy_loss,
    inverse_frequency_weights,
    n_outputs,
    soft_dice_loss,
    training_loss,
)
from segcal_lite.report.plotting import LOSS_COLOURS
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
    assert float(soft_dice_loss(perfect, labels, epsilon=1e-9)) == pytest.approx(-1)
    assert float(soft_dice_loss(torch.zeros(1, 2, 4), labels)) == 0


def test_each_loss_is_another_and_has_a_colour():
    torch.manual_seed(0)
    labels, found = torch.randint(0, 3, (2, 5, 5)), set()
    for loss in LOSSES:
        logits = torch.linspace(-2, 2, 150).reshape(2, 3, 5, 5)[:, : n_outputs(loss, 3)]
        found.add(round(float(training_loss(logits, labels, loss)), 6))
    assert len(found) == len(LOSSES)
    assert set(LOSS_COLOURS) == set(LOSSES)


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


def with_ignored(labels, seed=7, share=0.4):
    drawn = torch.rand(labels.shape, generator=torch.Generator().manual_seed(seed)) < share
    return torch.where(drawn, -1, labels)


@pytest.mark.parametrize("weighted", [False, True])
def test_ignored_pixels_are_in_neither_sum_nor_count(weighted):
    logits, labels = random_batch(3, 4)
    labels = with_ignored(labels)
    known, weights = labels >= 0, torch.tensor([0.2, 1.0, 3.0, 0.5]) if weighted else None
    alone = logits.movedim(1, -1)[known].T[None], labels[known][None]
    expected = cross_entropy_loss(*alone, weights)
    assert torch.allclose(cross_entropy_loss(logits, labels, weights), expected)
    probs = logits.softmax(dim=1)[:, 1:]
    alone = probs.movedim(1, -1)[known].T[None], labels[known][None]
    expected = soft_dice_loss(*alone, None if weights is None else weights[1:])
    found = soft_dice_loss(probs, labels, None if weights is None else weights[1:])
    assert torch.allclose(found, expected)


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_ignored_pixels_give_no_gradient_and_a_batch_of_them_no_loss(loss):
    logits, labels = random_batch(4, 3 if loss == "dice" else 4)
    labels = with_ignored(labels)
    logits.requires_grad_()
    training_loss(logits, labels, loss).backward()
    gradient = logits.grad.abs().sum(dim=1)
    assert not gradient[labels < 0].any()
    assert gradient[labels >= 0].all()
    assert float(training_loss(logits.detach(), torch.full_like(labels, -1), loss)) == 0


def test_cross_entropy_of_regions_is_the_mean_of_their_binary_ones():
    logits, _ = random_batch(5, 3)
    labels = torch.randint(0, 2, logits.shape, generator=torch.Generator().manual_seed(5))
    expected = functional.binary_cross_entropy(torch.sigmoid(logits), labels.float())
    assert torch.allclose(training_loss(logits, labels, "ce"), expected)
    weights = torch.tensor([[0.5, 2.0], [1.0, 3.0], [0.2, 7.0]])
    of_pixels = torch.stack([weights[r][labels[:, r]] for r in range(3)], dim=1)
    expected = functional.binary_cross_entropy(torch.sigmoid(logits), labels.float(), of_pixels)
    assert torch.allclose(training_loss(logits, labels, "ce", weights), expected)
    as_classes = class_logits(logits, "ce", n_regions=3)  # (B, 2, R, *S)
    assert torch.allclose(
        training_loss(logits, labels, "ce"), cross_entropy_loss(as_classes, labels)
    )


def test_dice_of_regions_is_equation_2_on_overlapping_indicators():
    logits, _ = random_batch(6, 3)
    labels = torch.randint(0, 2, logits.shape, generator=torch.Generator().manual_seed(6))
    probs, truth, weights = torch.sigmoid(logits), labels.float(), torch.tensor([1.0, 3.0, 1.0])
    over = (0, 2, 3)
    each = 2 * (probs * truth).sum(over) / ((probs + truth).sum(over) + 1.0)
    dice = training_loss(logits, labels, "dice", dice_weights=weights)
    assert float(dice) == pytest.approx(-float((weights / 5 * each).sum()), rel=1e-6)
    both = training_loss(logits, labels, "ce_dice", dice_weights=weights)
    assert torch.allclose(both, dice + training_loss(logits, labels, "ce"))


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_ignored_pixels_of_regions_count_nowhere(loss):
    logits, labels = random_batch(7, 2, n_classes=2)
    labels = with_ignored(labels)  # the same pixels in both regions
    known = labels >= 0
    both = torch.stack([labels, torch.where(known, 1 - labels, -1)], dim=1)
    alone = (t.movedim(1, -1)[known].T[None] for t in (logits, both))
    assert torch.allclose(training_loss(logits, both, loss), training_loss(*alone, loss))


def test_regions_get_probabilities_of_their_own():
    logits, _ = random_batch(8, 3)
    for loss in ("ce", "dice", "ce_dice"):
        probs = class_logits(logits, loss, n_regions=3).softmax(dim=1)
        assert probs.shape == (2, 2, 3, 5, 3)
        assert torch.allclose(probs[:, 1], torch.sigmoid(logits))
    assert n_outputs("ce", 2, n_regions=3) == n_outputs("dice", 2, n_regions=3) == 3


def test_dice_of_half_precision_is_summed_in_float32():
    labels = torch.ones(4, 256, 256, dtype=torch.int64)  # 262,144 pixels; float16 ends at 65,504
    probs = torch.full((4, 1, 256, 256), 0.5)
    expected = soft_dice_loss(probs, labels)
    for dtype in (torch.float16, torch.bfloat16):
        assert torch.equal(soft_dice_loss(probs.to(dtype), labels), expected)
    logits = torch.zeros(4, 2, 256, 256, dtype=torch.float16)
    assert float(cross_entropy_loss(logits, labels)) == pytest.approx(np.log(2))


def test_gradients_of_dice_lie_in_memory_as_the_logits_do():
    """Else the convolutions behind them run slower, and round otherwise."""
    logits, labels = random_batch(10, 3, shape=(2, 8, 8))
    logits = logits.contiguous(memory_format=torch.channels_last).requires_grad_() * 1
    (gradient,) = torch.autograd.grad(training_loss(logits, labels, "dice"), logits)
    assert gradient.stride() == logits.stride()


def test_any_integers_are_labels():
    logits, labels = random_batch(9, 4)
    for loss in ("ce", "ce_dice"):
        expected = training_loss(logits, labels, loss)
        for dtype in (torch.uint8, torch.int16, torch.int32):
            assert torch.equal(training_loss(logits, labels.to(dtype), loss), expected)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.int64])
def test_weights_of_any_type_weigh_alike(dtype):
    logits, labels = random_batch(9, 3, n_classes=3)
    weights = torch.tensor([1.0, 2.0, 4.0])
    for function, of_classes in ((cross_entropy_loss, weights), (soft_dice_loss, weights[1:])):
        maps = logits if len(of_classes) == 3 else logits.sigmoid()[:, 1:]
        expected = function(maps, labels, of_classes)
        assert torch.equal(function(maps, labels, of_classes.to(dtype)), expected)
        in_double = function(maps.double(), labels, of_classes)
        assert in_double.dtype == torch.float64
        assert float(in_double) == pytest.approx(float(expected), rel=1e-5)
    counts = inverse_frequency_weights([75, 20, 5])
    assert training_loss(logits.double(), labels, "ce_dice", counts).dtype == torch.float64


def test_wrong_names_are_refused():
    with pytest.raises(ValueError, match="loss: found 'focal', expected one of 'ce', 'dice'"):
        n_outputs("focal", 2)
    with pytest.raises(ValueError, match="class_counts"):
        inverse_frequency_weights([3.0, float("nan")])


NAN, INFINITE = torch.full((1, 2, 4), torch.nan), torch.full((1, 2, 4), -torch.inf)
LOGITS, LABELS = torch.zeros(1, 2, 4), torch.tensor([[0, 1, 1, 0]])


@pytest.mark.parametrize(
    ("logits", "labels", "message"),
    [
        (NAN, LABELS, "logits: found 8 NaN or infinite values"),
        (INFINITE, LABELS, "logits: found 8 NaN or infinite values"),
        (LOGITS, LABELS - 100, "labels: found values from -100 to -99, expected -1 to"),
        (LOGITS, LABELS + 3, "labels: found values from 3 to 4, expected -1 to"),
        (LOGITS.movedim(1, 2), LABELS, r"labels: found shape \(1, 4\), expected \(1, 2\)"),
        (LOGITS, LABELS[0], r"labels: found shape \(4,\)"),
        (LOGITS[0, 0], LABELS, r"logits: found torch.float32 of shape \(4,\)"),
        (LOGITS.long(), LABELS, "logits: found torch.int64"),
        (LOGITS, LABELS.float(), "labels: found dtype torch.float32, expected integers"),
        (LOGITS, LABELS > 0, "labels: found dtype torch.bool, expected integers"),
        (LOGITS, LABELS.to(torch.uint16), "labels: found dtype torch.uint16, expected integers wi"),
    ],
)
def test_wrong_input_is_one_sentence_for_every_loss(logits, labels, message):
    for loss in ("ce", "dice", "ce_dice"):
        with pytest.raises(ValueError, match=message):
            training_loss(logits, labels, loss)
    with pytest.raises(ValueError, match=message):
        cross_entropy_loss(logits, labels)
    with pytest.raises(ValueError, match=message.replace("logits", "foreground_probs")):
        soft_dice_loss(logits, labels)


def test_wrong_weights_and_probabilities_are_refused():
    for weights, found in (
        (torch.ones(3), r"shape \(3,\), expected shape \(2,\)"),
        (torch.tensor([1.0, torch.nan]), "1 NaN"),
        (torch.tensor([1.0, -1.0]), r"\[1.0, -1.0\], expected numbers of at least 0"),
        (torch.zeros(2), r"\[0.0, 0.0\], expected numbers of at least 0, one above it"),
    ):
        for function in (cross_entropy_loss, soft_dice_loss):
            with pytest.raises(ValueError, match=f"class_weights: found {found}"):
                function(LOGITS, LABELS, weights)
    with pytest.raises(ValueError, match="class_weights: found shape"):
        training_loss(LOGITS, LABELS, "ce", torch.ones(3), check_values=False)
    with pytest.raises(ValueError, match="foreground_probs: found values from -3 to 0"):
        soft_dice_loss(LOGITS - torch.tensor([[[0.0, 3, 0, 0]]]), LABELS)
    with pytest.raises(ValueError, match="epsilon: found -1"):
        soft_dice_loss(LOGITS, LABELS, epsilon=-1)
    with pytest.raises(ValueError, match="epsilon: found 0, expected a number of pixels above 0"):
        soft_dice_loss(LOGITS, LABELS, epsilon=0)
    with pytest.raises(ValueError, match="epsilon: found 1e-50, expected .*, also in float32"):
        soft_dice_loss(LOGITS, LABELS, epsilon=1e-50)
    with pytest.raises(ValueError, match="logits: found 1 class, expected at least 2"):
        training_loss(LOGITS[:, :1], LABELS, "ce")


@pytest.mark.parametrize(
    ("n_maps", "loss", "known", "message"),
    [
        (2, "dice", {"n_classes": 2}, "found 2 outputs .* 'dice', expected 1 for 2 classes"),
        (3, "ce", {"n_classes": 4}, "found 3 outputs .* 'ce', expected 4 for 4 classes"),
        (1, "ce", {}, "found 1 outputs .* 'ce', expected at least 2"),
        (1, "ce_dice", {}, "found 1 outputs"),
        (2, "ce", {"n_regions": 3}, "found 2 outputs .*, expected 3 for 3 overlapping regions"),
    ],
)
def test_outputs_that_do_not_fit_their_loss_are_refused(n_maps, loss, known, message):
    with pytest.raises(ValueError, match=message):
        class_logits(torch.zeros(1, n_maps, 4), loss, **known)
    with pytest.raises(ValueError, match=r"logits: found shape \(4,\)"):
        class_logits(torch.zeros(4), loss)


def test_a_byte_of_255_is_a_class_and_not_a_voxel_that_nobody_annotated():
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 256, 8, generator=generator)
    labels = torch.tensor([[255, 255, 0, 1, 2, 255, 3, 4]])
    expected = functional.cross_entropy(logits, labels)
    for dtype in (torch.uint8, torch.int64):
        assert cross_entropy_loss(logits, labels.to(dtype)).item() == pytest.approx(expected.item())
    probs = logits.softmax(dim=1)[:, 1:]
    assert torch.equal(soft_dice_loss(probs, labels.to(torch.uint8)), soft_dice_loss(probs, labels))
