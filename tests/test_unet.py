import pytest
import torch
from torch import nn

from segcal_lite.unet import DoubleConvolution, UNet


def count_by_hand(widths, n_channels, n_outputs, kernel=9):
    """Parameters from the widths alone: convolutions, scale and shift of the normalisations."""

    def block(n_in, n_out):
        return kernel * n_in * n_out + 2 * n_out + kernel * n_out * n_out + 2 * n_out

    encoder = sum(block(*pair) for pair in zip((n_channels, *widths[:-1]), widths, strict=True))
    decoder = sum(
        block(deep + skip, skip) for skip, deep in zip(widths[:-1], widths[1:], strict=True)
    )
    return encoder + decoder + widths[0] * n_outputs + n_outputs


def n_parameters(model):
    return sum(parameter.numel() for parameter in model.parameters())


def test_count_of_parameters_of_the_papers_network():
    model = UNet(n_channels=1, n_outputs=2)
    assert n_parameters(model) == count_by_hand((8, 16, 32, 64, 128), 1, 2) == 491_738


@pytest.mark.parametrize("n_dims", [2, 3])
def test_both_dimensions_from_one_class(n_dims):
    model = UNet(3, 4, widths=(4, 8, 16), n_dims=n_dims)
    assert n_parameters(model) == count_by_hand((4, 8, 16), 3, 4, kernel=3**n_dims)
    image = torch.zeros(2, 3, *(8,) * n_dims)
    assert model(image).shape == (2, 4, *(8,) * n_dims)


def test_dropout_sits_in_the_three_inner_most_blocks_of_both_halves():
    model = UNet(1, 2, dropout=0.5)
    has_dropout = [
        [isinstance(block[-1], nn.Dropout) for block in half]
        for half in (model.encoder, model.decoder)
    ]
    assert has_dropout == [[False, False, True, True, True], [True, True, True, False]]
    assert not any(isinstance(module, nn.Dropout) for module in UNet(1, 2).modules())


def test_every_block_is_two_convolutions_with_normalisation_and_relu():
    kinds = [type(layer) for layer in DoubleConvolution(1, 8, dropout=0.5)]
    once = [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]
    assert kinds == [*once, *once, nn.Dropout]


def test_he_initialisation_is_gaussian_with_the_right_spread():
    weight = UNet(1, 2).encoder[4][3].weight  # 128 -> 128
    assert weight.std().item() == pytest.approx((2 / (128 * 9)) ** 0.5, rel=0.02)
    kurtosis = ((weight / weight.std()) ** 4).mean().item()
    assert kurtosis == pytest.approx(3, abs=0.1)


def test_skip_connections_carry_detail_past_the_bottleneck():
    model = UNet(1, 1).eval()
    image = torch.zeros(1, 1, 16, 16, requires_grad=True)
    with torch.no_grad():
        for parameter in model.encoder[4].parameters():
            parameter.zero_()  # nothing passes through the bottleneck
    model(image + torch.rand_like(image)).sum().backward()
    assert image.grad.abs().sum() > 0


def test_an_image_whose_sides_cannot_be_halved_is_refused():
    with pytest.raises(ValueError, match=r"image: found sides \(20, 32\), expected mult.* of 16"):
        UNet(1, 2)(torch.zeros(1, 1, 20, 32))


def test_unknown_dimension_is_refused():
    with pytest.raises(ValueError, match="n_dims"):
        UNet(1, 2, n_dims=4)
