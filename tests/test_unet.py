import pytest
import torch
from textbook_unet import as_textbook
from torch import nn

from segcal_lite.unet import DoubleConvolution, ResidualBlock, ResidualUNet, UNet


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


@pytest.mark.parametrize("n_dims", [2, 3])
@pytest.mark.parametrize("sides", [(8, 8, 8), (16, 4, 24)])
def test_logits_and_gradients_are_the_textbooks(n_dims, sides):
    torch.manual_seed(0)
    models = [UNet(2, 3, widths=(4, 8, 16), n_dims=n_dims).double() for _ in range(2)]
    models[1] = as_textbook(models[1])
    models[1].load_state_dict(models[0].state_dict())
    image = torch.randn(2, 2, *sides[:n_dims], dtype=torch.float64)
    found = []
    for model in models:
        logits = model(image)
        logits.square().sum().backward()
        gradients = [parameter.grad for parameter in model.parameters()]
        found.append([logits, *gradients, *model.buffers(), model.eval()(image)])
    for ours, textbook in zip(*found, strict=True):
        torch.testing.assert_close(ours, textbook, rtol=1e-9, atol=1e-9)


def test_logits_are_the_textbooks_in_bfloat16():
    torch.manual_seed(0)
    model, image = UNet(1, 2).eval(), torch.randn(1, 1, 32, 32)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        ours = model(image)
        textbook = as_textbook(model)(image)
    assert ours.dtype == textbook.dtype == torch.bfloat16
    assert (ours - textbook).abs().max() < 0.02 * textbook.abs().max()


def test_weights_have_the_names_and_shapes_of_files_that_exist():
    shapes = {name: tuple(w.shape) for name, w in UNet(1, 2, widths=(4, 8)).state_dict().items()}
    assert shapes["decoder.0.0.weight"] == (4, 12, 3, 3)
    assert {name.split(".")[0] for name in shapes} == {"encoder", "decoder", "output"}


def test_dropout_sits_in_the_three_inner_most_blocks_of_both_halves():
    model = UNet(1, 2, dropout=0.5).eval()
    channels = []
    for layer in model.dropout:
        if isinstance(layer, nn.Dropout):
            layer.register_forward_hook(lambda *call: channels.append(call[2].shape[1]))
    model(torch.zeros(1, 1, 16, 16))
    assert channels == [32, 64, 128, 64, 32, 16]
    assert not any(isinstance(module, nn.Dropout) for module in UNet(1, 2).modules())


@pytest.mark.parametrize(
    ("model", "n_blocks"),
    [
        (UNet(1, 2, dropout=0.5), 3),
        (UNet(1, 2, widths=(4, 8), dropout=0.5), 1),
        (ResidualUNet(1, 2, n_features=2, n_stages=4, dropout=0.5), 0),
    ],
)
def test_what_lies_before_the_first_dropout_may_be_handed_in(model, n_blocks):
    image = torch.randn(2, 1, *(16,) * model.n_dims)
    for layer in model.eval().modules():
        if isinstance(layer, nn.Dropout):
            layer.train()
    known = model.features_before_dropout(image)
    assert len(known) == n_blocks
    torch.manual_seed(0)
    whole = model(image)
    torch.manual_seed(0)
    assert torch.equal(model(image, known), whole)
    assert not torch.equal(model(image, known), whole)


def test_every_block_is_two_convolutions_with_normalisation_and_relu():
    kinds = [type(layer) for layer in DoubleConvolution(1, 8)]
    assert kinds == 2 * [nn.Conv2d, nn.BatchNorm2d, nn.ReLU]


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


def count_residual_by_hand(n_channels, n_outputs, n_features, n_stages):
    """Parameters from the widths alone."""
    widths = [n_features * 2**stage for stage in range(n_stages)]

    def block(n_in, n_out):
        normalisations = 2 * (2 * n_out)
        fitted_skip = n_in * n_out + n_out if n_in != n_out else 0
        return 27 * n_in * n_out + 27 * n_out * n_out + normalisations + fitted_skip

    total = sum(block(n_in, n_out) for n_in, n_out in zip([n_channels, *widths], widths))  # noqa: B905
    for above, below in zip(widths, widths[1:]):  # noqa: B905
        total += 8 * below * above + above  # transposed convolution
        total += block(2 * above, above)
    return total + widths[0] * n_outputs + n_outputs


@pytest.mark.parametrize("settings", [(1, 1, 14, 5), (1, 2, 14, 4), (3, 4, 2, 6)])
def test_count_of_parameters(settings):
    n_channels, n_outputs, n_features, n_stages = settings
    model = ResidualUNet(n_channels, n_outputs, n_features, n_stages)
    assert n_parameters(model) == count_residual_by_hand(*settings)


def receptive_field(n_stages):
    """Voxels along one axis that the gradient of one output voxel reaches.

    Without normalisation, whose mean and variance are of the whole block. With positive weights and
    no nonlinearity nothing cancels, so what it does not reach has no influence.
    """
    model = ResidualUNet(1, 1, n_features=1, n_stages=n_stages).eval()
    for module in model.modules():
        if isinstance(module, (nn.Conv3d, nn.ConvTranspose3d)):
            nn.init.constant_(module.weight, 0.1)
        if isinstance(module, ResidualBlock):
            for k, layer in enumerate(module.convolutions):
                if isinstance(layer, nn.InstanceNorm3d):
                    module.convolutions[k] = nn.Identity()
    model.pool = nn.AvgPool3d(2)  # the largest of a pair may be any of them: all have influence
    side, thin = 512, 2 ** (n_stages - 1)
    image = torch.full((1, 1, side, thin, thin), 0.5, dtype=torch.float64, requires_grad=True)
    logits = model.double()(image)
    reach = []
    for centre in range(
        side // 2, side // 2 + thin
    ):  # it depends on the place within a voxel below
        (gradient,) = torch.autograd.grad(logits[0, 0, centre, 0, 0], image, retain_graph=True)
        reached = torch.nonzero(gradient[0, 0].sum(dim=(1, 2))).flatten()
        reach.append(int(reached.max() - reached.min()) + 1)
    return min(reach), max(reach)


def receptive_field_by_hand(n_stages):
    """Largest reach: two 3 x 3 x 3 convolutions a block, poolings of 2, in voxels of the image."""
    field = 1
    for _ in range(n_stages - 1):  # decoder from the output inwards, in ever larger voxels
        field += 4
        field = -(-field // 2) + (1 if field % 2 == 0 else 0)  # parents of a run of voxels
    field += 4
    for _ in range(n_stages - 1):
        field = 2 * field + 4
    return field


@pytest.mark.parametrize("n_stages", [4, 5])
def test_the_receptive_field_covers_a_block(n_stages):
    smallest, largest = receptive_field(n_stages)
    assert largest == receptive_field_by_hand(n_stages)
    if n_stages == 5:  # the default
        assert smallest >= 96


def test_a_map_of_full_resolution_with_14_channels_is_reachable_by_name():
    model = ResidualUNet(1, 2).eval()
    found = []
    model.last_features.register_forward_hook(lambda *call: found.append(call[2]))
    logits = model(torch.zeros(1, 1, 32, 16, 16))
    assert found[0].shape == (1, 14, 32, 16, 16)
    assert torch.equal(model.output(found[0]), logits)


def test_dropout_stands_behind_every_convolution_of_3_x_3_x_3():
    model = ResidualUNet(1, 2, n_features=2, dropout=0.1)
    for block in model.modules():
        if isinstance(block, ResidualBlock):
            kinds = [type(layer) for layer in block.convolutions]
            once = [nn.Conv3d, nn.Dropout, nn.InstanceNorm3d]
            assert kinds == [*once, nn.ReLU, *once]
    rates = {layer.p for layer in model.modules() if isinstance(layer, nn.Dropout)}
    assert rates == {0.1}
    assert not any(isinstance(m, nn.Dropout) for m in ResidualUNet(1, 2, n_features=2).modules())


def test_the_short_skip_leads_round_the_convolutions():
    block = ResidualBlock(3, 3).eval()
    for layer in block.convolutions:
        if isinstance(layer, nn.Conv3d):
            nn.init.zeros_(layer.weight)
    features = torch.randn(1, 3, 4, 4, 4)
    assert torch.equal(block(features), features.relu())


def test_every_parameter_gets_gradient():
    torch.manual_seed(0)
    model = ResidualUNet(2, 3, n_features=2, n_stages=4)
    model(torch.randn(2, 2, 16, 16, 16)).square().sum().backward()
    without = [n for n, p in model.named_parameters() if p.grad is None or not p.grad.any()]
    assert without == []


def test_he_initialisation_of_the_residual_network_has_the_right_spread():
    weight = ResidualUNet(1, 1).encoder[3].convolutions[3].weight  # 112 -> 112
    assert weight.std().item() == pytest.approx((2 / (112 * 27)) ** 0.5, rel=0.02)


@pytest.mark.parametrize("side", [8, 24, 33])
def test_sides_that_do_not_halve_are_refused(side):
    model = ResidualUNet(1, 1, n_features=1)
    with pytest.raises(ValueError, match=r"image: found sides .*, expected multiples of 16"):
        model(torch.zeros(1, 1, 16, side, 16))


def test_a_single_voxel_at_the_bottom_is_refused():
    """It has no variance to be normalised by."""
    with pytest.raises(ValueError, match=r"image: found sides \(16, 16, 16\), expected one of at"):
        ResidualUNet(1, 1, n_features=1)(torch.zeros(1, 1, 16, 16, 16))


def test_a_batch_companion_changes_nothing():
    """Each block is normalised by itself, in training as in use."""
    torch.manual_seed(0)
    model = ResidualUNet(1, 1, n_features=2, n_stages=4)
    blocks = torch.randn(2, 1, 16, 16, 16) * torch.tensor([1.0, 500.0]).view(2, 1, 1, 1, 1)
    together, alone = model(blocks)[:1], model(blocks[:1])
    torch.testing.assert_close(together, alone)
    torch.testing.assert_close(model.eval()(blocks[:1]), alone)


def test_fewer_than_four_stages_are_refused():
    with pytest.raises(ValueError, match="n_stages: found 3, expected an integer of at least 4"):
        ResidualUNet(1, 1, n_stages=3)
