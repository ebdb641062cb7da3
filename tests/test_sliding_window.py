import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from segcal_lite.losses import class_logits
from segcal_lite.residual_unet import ResidualUNet
from segcal_lite.sliding_window import owned_ranges, predict_volume, stream_features
from segcal_lite.spectral import SpectrumSums


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
            return torch.arange(block.shape[2]).view(1, 1, -1, 1, 1).expand(1, 1, *block.shape[2:])

    network = Place()
    image = np.zeros((1, 28, 16, 16), dtype=np.float32)
    found = np.zeros(28)
    for place, features in stream_features(network, network, image, (16,) * 3, 4):
        found[place[0]] = features[0, :, 0, 0]
    assert found.tolist() == [*range(14), *range(2, 16)]


def test_a_layer_of_another_resolution_is_refused(model):
    with pytest.raises(ValueError, match="layer: found an output of"):
        next(stream_features(model, model.encoder[1], random_image(16, 16, 16), (16,) * 3, 4))


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
