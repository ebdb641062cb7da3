import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from segcal_lite.detectors import SpectralDetector
from segcal_lite.losses import class_logits
from segcal_lite.sliding_window import (
    named_layer,
    owned_ranges,
    predict_volume,
    predict_with_features,
    signature_of_volume,
    spectrum_of_volume,
    stream_features,
)
from segcal_lite.spectral import SpectrumSums, spectral_signature
from segcal_lite.unet import ResidualUNet, UNet


@pytest.fixture(scope="module")
def model():
    torch.manual_seed(0)
    return ResidualUNet(2, 3, n_features=4, n_stages=4).eval()


def random_image(*shape):
    return np.random.default_rng(0).normal(size=(2, *shape)).astype(np.float32)


@given(side=st.integers(1, 300), block=st.integers(2, 96), data=st.data())
def test_every_voxel_of_an_axis_is_owned_once(side, block, data):
    overlap = data.draw(st.integers(0, block - 1))
    ranges = owned_ranges(side, block, overlap)
    owned = [voxel for _, part in ranges for voxel in range(part.start, part.stop)]
    assert owned == list(range(side))
    for start, part in ranges:
        assert start <= part.start < part.stop <= start + block
        assert start + block <= max(side, block)
    steps = np.diff([start for start, _ in ranges])
    assert np.all(steps <= block - overlap)


def test_a_volume_of_one_block_is_the_network_itself(model):
    image = random_image(16, 24, 16)
    probs = predict_volume(model, image, "ce", (16, 24, 16), overlap=4)
    with torch.no_grad():
        expected = model(torch.from_numpy(image)[None]).softmax(dim=1)[0].numpy()
    np.testing.assert_allclose(probs, expected, atol=1e-6)
    assert probs.dtype == np.float32


@pytest.mark.parametrize("shape", [(40, 30, 17), (10, 40, 9), (16, 16, 16)])
@pytest.mark.parametrize("loss", ["ce", "dice"])
def test_probabilities_are_normalised_everywhere(model, shape, loss):
    probs = predict_volume(model, random_image(*shape), loss, (16, 16, 16), overlap=4)
    assert probs.shape == ((3 if loss == "ce" else 4), *shape)
    np.testing.assert_allclose(probs.sum(axis=0), 1, atol=1e-5)
    assert probs.min() >= 0


def test_a_network_that_sees_single_voxels_gives_the_same_in_blocks_and_whole():
    torch.manual_seed(0)
    network = nn.Conv3d(2, 2, kernel_size=1)
    image = random_image(30, 21, 40)
    probs = predict_volume(network, image, "dice", (16, 16, 16), overlap=6)
    with torch.no_grad():
        logits = class_logits(network(torch.from_numpy(image)[None]), "dice")
    np.testing.assert_allclose(probs, logits.softmax(dim=1)[0].numpy(), atol=1e-6)


@pytest.mark.parametrize("shape", [(40, 30, 17), (10, 40, 9)])
def test_streamed_features_cover_each_voxel_once_and_have_the_spectrum_of_the_stitched_map(
    model, shape
):
    image = random_image(*shape)
    stitched = np.full((4, *shape), np.nan)
    sums = SpectrumSums(4)
    for place, features in stream_features(model, model.last_features, image, (16,) * 3, 4):
        assert np.isnan(stitched[:, *place]).all()
        stitched[:, *place] = features
        sums.update(features)
    assert np.isfinite(stitched).all()
    assert sums.n_voxels == np.prod(shape)
    expected = np.linalg.svd(stitched.reshape(4, -1), compute_uv=False)
    np.testing.assert_allclose(sums.singular_values(), expected, rtol=1e-6)


@pytest.mark.parametrize(
    ("shape", "block", "overlap"),
    [((40, 30, 17), 16, 4), ((10, 40, 9), 16, 5), ((41, 24, 50), 24, 7), ((24, 24, 24), 24, 0)],
)
def test_one_pass_gives_the_probabilities_and_features_of_two(model, shape, block, overlap):
    image, window = random_image(*shape), ((block,) * 3, overlap)
    layers = {"last": model.last_features, "half": model.encoder[1]}
    arrived = {name: [] for name in layers}
    probs = predict_with_features(
        model, layers, image, "ce", lambda name, *found: arrived[name].append(found), *window
    )
    np.testing.assert_array_equal(probs, predict_volume(model, image, "ce", *window))
    for name, layer in layers.items():
        alone = list(stream_features(model, layer, image, *window))
        assert [place for place, _ in alone] == [place for place, _ in arrived[name]]
        for (_, features), (_, expected) in zip(arrived[name], alone, strict=True):
            np.testing.assert_allclose(features, expected, atol=1e-5)


def test_features_and_probabilities_of_a_small_volume_come_from_the_same_padded_block(model):
    image = random_image(10, 13, 16)
    probs = predict_volume(model, image, "ce", (16,) * 3, overlap=4)
    ((place, features),) = stream_features(model, model.last_features, image, (16,) * 3, 4)
    assert place == (slice(0, 10), slice(0, 13), slice(0, 16))
    with torch.no_grad():
        logits = model.output(torch.from_numpy(features)[None])
    np.testing.assert_allclose(probs, logits.softmax(dim=1)[0].numpy(), atol=1e-5)


def test_features_are_those_of_the_middle_block():
    """A layer that marks the place within its block shows where the seams run."""

    class Place(nn.Module):
        def __init__(self):
            super().__init__()
            self.weight = nn.Parameter(torch.zeros(1))

        def forward(self, block):
            place = torch.arange(block.shape[2]).view(1, 1, -1, 1, 1)
            return place.expand(len(block), 1, *block.shape[2:])

    network = Place()
    image = np.zeros((1, 28, 16, 16), dtype=np.float32)
    found = np.zeros(28)
    for place, features in stream_features(network, network, image, (16,) * 3, 4):
        found[place[0]] = features[0, :, 0, 0]
    assert found.tolist() == [*range(14), *range(2, 16)]


@pytest.mark.parametrize("side", [16, 28, 40, 33])
def test_a_layer_of_half_the_resolution_counts_each_of_its_cells_once(model, side):
    """Centres are 2 voxels apart; where a last block is out of step with the others, 1 or 3."""
    image = random_image(side, 16, 16)
    maps = stream_features(model, model.encoder[1].activation, image, (16,) * 3, 4)
    n_cells = sum(features.shape[1] for _, features in maps)
    assert abs(n_cells - side / 2) <= 1
    assert n_cells == side / 2 or side % 2


def test_features_of_half_the_resolution_are_those_of_the_block(model):
    image = random_image(16, 16, 16)
    ((_, features),) = stream_features(model, model.encoder[1], image, (16,) * 3, 4)
    with torch.no_grad():
        block = torch.from_numpy(image)[None]
        expected = model.encoder[1](model.pool(model.encoder[0](block)))[0]
    np.testing.assert_allclose(features, expected.numpy(), atol=1e-6)


def test_a_layer_whose_output_is_no_fraction_of_the_block_is_refused():
    network = nn.Conv3d(2, 3, kernel_size=2)
    with pytest.raises(ValueError, match=r"layer: found an output of \(15, 15, 15\)"):
        next(stream_features(network, network, random_image(16, 16, 16), (16,) * 3, 4))


def test_layers_are_found_by_name(model):
    assert named_layer(model, "last_features") is model.decoder[-1]
    assert named_layer(model, "encoder.0") is model.encoder[0]
    for name in ("decoder.9", "training", "no_such"):
        with pytest.raises(ValueError, match=f"layer: found '{name}', expected one of .*decoder.2"):
            named_layer(model, name)


def test_a_channel_too_many_and_a_missing_number_are_refused(model):
    with pytest.raises(ValueError, match="image: found 3 channels, expected 2"):
        predict_volume(model, np.zeros((3, 16, 16, 16)), "ce", (16,) * 3, 4)
    image = random_image(16, 16, 16)
    image[0, 3, 3, 3] = np.nan
    with pytest.raises(ValueError, match="image: found 1 NaN"):
        next(stream_features(model, model.last_features, image, (16,) * 3, 4))


@pytest.mark.parametrize(
    ("shape", "block", "overlap", "message"),
    [
        ((4, 4), (16,) * 3, 4, "image: found shape"),
        ((0, 4, 4), (16,) * 3, 4, "image: found shape"),
        ((16, 16, 16), (16, 16), 4, "block_size: found"),
        ((16, 16, 16), (16, 16, 0), 4, "block_size: found 0"),
        ((16, 16, 16), (16,) * 3, 16, "overlap: found 16, expected less than"),
        ((16, 16, 16), (16,) * 3, -1, "overlap: found -1"),
    ],
)
def test_refuses(model, shape, block, overlap, message):
    with pytest.raises(ValueError, match=message):
        predict_volume(model, random_image(*shape), "ce", block, overlap)
    with pytest.raises(ValueError, match=message):
        next(stream_features(model, model.last_features, random_image(*shape), block, overlap))


# ---- any network, by the name of a layer ----


def monai_networks():
    """What others train: by name a network of two channels, one of its layers, its window."""
    from monai.networks.nets import DynUNet, SegResNetDS
    from monai.networks.nets import UNet as MonaiUNet

    kernels = {"kernel_size": [3] * 3, "strides": [1, 2, 2], "upsample_kernel_size": [2, 2]}
    torch.manual_seed(0)
    return {
        "UNet": (MonaiUNet(3, 2, 3, (4, 8, 8), (2, 2)), "model.2", 16),
        "DynUNet": (
            DynUNet(3, 2, 3, **kernels, filters=[4, 8, 8], deep_supervision=True, deep_supr_num=1),
            "upsamples.1",
            16,
        ),
        "SegResNetDS": (
            SegResNetDS(init_filters=8, in_channels=2, blocks_down=(1, 1), dsdepth=2),
            "up_layers.0.blocks",
            16,
        ),
    }


def hooked(network, layer, images):
    """What a layer puts out, by a hook of the test's own."""
    found, module = [], dict(network.named_modules())[layer]
    hook = module.register_forward_hook(lambda module, inputs, output: found.append(output))
    with torch.no_grad():
        network.eval()(torch.from_numpy(images))
    hook.remove()
    return found[0].numpy()


@pytest.mark.parametrize("name", ["UNet", "DynUNet", "SegResNetDS"])
def test_a_volume_of_one_window_has_the_signature_of_the_layers_map(name):
    network, layer, side = monai_networks()[name]
    image = random_image(side, side, side)
    network.train()
    found = signature_of_volume(network, image, layer, (side,) * 3, 4)
    assert all(module.training for module in network.modules())
    expected = spectral_signature(hooked(network, layer, image[np.newaxis])[0])
    np.testing.assert_allclose(found, expected, atol=1e-6)
    np.testing.assert_allclose(signature_of_volume(network, image, layer), expected, atol=1e-6)


@pytest.mark.parametrize("name", ["UNet", "DynUNet", "SegResNetDS"])
def test_a_larger_volume_counts_each_voxel_once_in_networks_of_others(name):
    network, layer, side = monai_networks()[name]
    spectrum = spectrum_of_volume(network, random_image(24, 19, 10), layer, (side,) * 3, 4)
    assert spectrum.n_voxels == 24 * 19 * 10
    assert np.isclose(np.linalg.norm(spectrum.signature()), 1)


def test_a_network_that_returns_a_list_is_judged_by_its_layer():
    """As nnU-Net's does under deep supervision, in evaluation mode, too."""

    class Supervised(nn.Module):
        def __init__(self):
            super().__init__()
            self.features, self.heads = nn.Conv3d(2, 4, 3, padding=1), nn.Conv3d(4, 3, 1)
            self.unused = nn.ReLU()

        def forward(self, image):
            logits = self.heads(self.features(image))
            return [logits, logits[..., ::2]]

    network, image = Supervised(), random_image(16, 16, 16)
    found = signature_of_volume(network, image, "features", (16, 16, 16), 0)
    with torch.no_grad():
        expected = spectral_signature(network.features(torch.from_numpy(image)[None])[0].numpy())
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="layer: found an output of type list, expected one tens"):
        signature_of_volume(network, image, "", (16, 16, 16), 0)
    with pytest.raises(ValueError, match="layer: found 0 calls of it in a pass"):
        signature_of_volume(network, image, "unused", (16, 16, 16), 0)
    containers = monai_networks()["SegResNetDS"][0]
    with pytest.raises(ValueError, match="0 calls .* name a layer within it"):
        signature_of_volume(containers, image, "up_layers.0", (16, 16, 16), 0)


def small_2d_network(n_channels=2):
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(n_channels, 4, 3, padding=1), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 1)
    )


def test_a_network_that_sees_slices_gets_every_slice_once():
    network, image = small_2d_network(), random_image(16, 12, 9)
    slices = np.moveaxis(image, -1, 0)
    expected = np.moveaxis(hooked(network, "2", slices), 0, -1)
    for window in (None, (16, 12)):
        found = signature_of_volume(network, image, "2", window, 4)
        np.testing.assert_allclose(found, spectral_signature(expected), atol=1e-6)
    spectrum = spectrum_of_volume(network, random_image(20, 7, 5), "2", (8, 8), 2)
    assert spectrum.n_voxels == 20 * 7 * 5


def test_slices_larger_than_the_window_are_cut_at_seams_in_plane_only():
    """A convolution of one voxel has no border: windows, padding and seams change nothing."""
    network, image = nn.Sequential(nn.Conv2d(2, 3, 1)), random_image(21, 6, 4)
    with torch.no_grad():
        whole = network(torch.from_numpy(np.moveaxis(image, -1, 0))).numpy()
    found = signature_of_volume(network, image, "0", (8, 8), 3)
    np.testing.assert_allclose(found, spectral_signature(np.moveaxis(whole, 0, -1)), atol=1e-6)


@pytest.mark.parametrize("n_dims", [2, 3])
def test_our_networks_go_the_same_way(n_dims):
    torch.manual_seed(0)
    network, image = UNet(2, 3, widths=(4, 8), n_dims=n_dims).eval(), random_image(16, 16, 6)
    samples = image[np.newaxis] if n_dims == 3 else np.moveaxis(image, -1, 0)
    maps = hooked(network, "decoder.0", samples)
    expected = maps[0] if n_dims == 3 else np.moveaxis(maps, 0, -1)
    for layer in ("last_features", "decoder.0"):
        found = signature_of_volume(network, image, layer)
        np.testing.assert_allclose(found, spectral_signature(expected), atol=1e-6)


def test_residual_network_has_the_spectrum_of_its_streamed_features(model):
    image, sums = random_image(40, 30, 17), SpectrumSums(4)
    for _, features in stream_features(model, model.last_features, image, (16,) * 3, 4):
        sums.update(features)
    found = signature_of_volume(model, image, "last_features", (16,) * 3)  # 4 is a quarter of 16
    np.testing.assert_array_equal(found, sums.signature())


def test_modes_are_restored_module_by_module_also_when_the_network_fails():
    network = small_2d_network().train()
    network[1].eval()  # a frozen normalisation
    before = network[1].running_mean.clone()
    signature_of_volume(network, random_image(8, 8, 3), "2")
    with pytest.raises(ValueError, match=r"network: found .*channels.*image \(3, 8, 8, 3\)"):
        signature_of_volume(network, np.zeros((3, 8, 8, 3)), "2")
    assert [module.training for module in network] == [True, False, True, True]
    assert torch.equal(network[1].running_mean, before)
    assert not network[2]._forward_hooks


def test_double_precision_and_a_given_device():
    network, image = small_2d_network(), random_image(8, 8, 3)
    expected = signature_of_volume(network, image, "2")
    found = signature_of_volume(network.double(), image, "2", device="cpu")
    np.testing.assert_allclose(found, expected, atol=1e-6)
    with pytest.raises(ValueError, match="device: found 'abacus'"):
        signature_of_volume(network, image, "2", device="abacus")


def test_a_detector_is_fitted_to_signatures_of_any_network():
    network, rng = small_2d_network(1), np.random.default_rng(1)
    images = rng.normal(size=(8, 1, 12, 12, 4))
    known = [signature_of_volume(network, image, "2") for image in images]
    detector = SpectralDetector().fit(known[:6])
    strange = signature_of_volume(network, np.cumsum(images[7], axis=1), "2")
    assert detector.score(strange) > 2 * max(detector.score(known[6:]))
    assert detector.is_ood(strange)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"network": torch.relu}, "network: found a builtin.* a plain callable only the pred"),
        ({"layer": "9"}, r"layer: found '9', expected one of \['0', '1', '2', '3'\], or another"),
        ({"layer": None}, "layer: found None"),
        ({"network": monai_networks()["DynUNet"][0]}, r"found '0', expected .*'upsamples.1'"),
        ({"window": (8, 8, 8)}, r"window: found \(8, 8, 8\), expected 2 sides"),
        ({"network": nn.Sequential(nn.Conv3d(2, 3, 1))}, r"window: found \(8, 8\), expected 3"),
        ({"window": (8, 0)}, "block_size: found 0"),
        ({"overlap": 0.5}, "overlap: found 0.5"),
        ({"overlap": 8}, "overlap: found 8, expected less than a block's side 8"),
        ({"image": np.zeros((2, 8, 8))}, r"image: found shape \(2, 8, 8\)"),
        ({"image": np.full((2, 8, 8, 2), np.nan)}, "image: found 256 NaN"),
    ],
)
def test_what_has_no_signature_is_refused_in_one_sentence(changed, message):
    given = {"network": small_2d_network(), "image": random_image(8, 8, 2), "layer": "0"}
    given |= {"window": (8, 8), "overlap": 0} | changed
    with pytest.raises(ValueError, match=message):
        signature_of_volume(**given)


def test_a_block_or_window_that_is_one_number_is_named():
    model, image = UNet(1, 2, widths=(2, 4), n_dims=3).eval(), np.zeros((1, 8, 8, 8), np.float32)
    with pytest.raises(ValueError, match="^block_size: found 8, expected 3 sides"):
        predict_volume(model, image, "ce", block_size=8)
    with pytest.raises(ValueError, match="^window: found 8, expected 3 sides"):
        signature_of_volume(model, image, "last_features", window=8)


def test_a_layer_that_owns_no_cell_of_a_thin_volume_is_named():
    network = nn.Sequential(nn.Conv3d(1, 4, 3, padding=1), nn.MaxPool3d(16), nn.Conv3d(4, 3, 1))
    image = np.random.default_rng(0).normal(size=(1, 32, 32, 20)).astype(np.float32)
    window = (32, 32, 32)
    assert spectrum_of_volume(network, image, "2", window).n_voxels == 8
    with pytest.raises(ValueError, match=r"^layer: found no voxel with its centre in \(32, 32, 12"):
        signature_of_volume(network, image[..., :12], "2", window)


def test_a_network_without_parameters_goes_block_by_block():
    """As a frozen one has none: they are constants of its code."""
    network = nn.Conv3d(1, 2, 3, padding=1).eval()
    frozen = torch.jit.freeze(torch.jit.script(network))
    assert not list(frozen.parameters())
    image = np.random.default_rng(0).normal(size=(1, 8, 8, 8)).astype(np.float32)
    predicted = [predict_volume(each, image, "ce", (8, 8, 8), 2) for each in (network, frozen)]
    assert np.allclose(*predicted)
