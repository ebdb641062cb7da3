import warnings
from dataclasses import replace

import numpy as np
import pytest
import torch

from segcal_lite import inference
from segcal_lite.data.prepared import read_prepared
from segcal_lite.inference import (
    dropout_switched_on,
    mc_dropout_passes,
    predict_case,
    predict_logits,
    recorded_features,
)
from segcal_lite.sliding_window import predict_volume
from segcal_lite.training.models import build_model, load_model
from segcal_lite.training.on_slices import train_model
from segcal_lite.unet import ResidualUNet, UNet


@pytest.fixture(scope="module")
def image():
    return np.random.default_rng(0).random((1, 32, 32, 5), dtype=np.float32)


@pytest.fixture
def dropout_model(settings):
    return build_model(settings("dice", dropout=True)).eval()


@pytest.mark.parametrize("loss", ["ce", "dice"])
def test_a_volume_is_predicted_slice_by_slice(loss, settings, image):
    model = build_model(settings(loss)).eval()
    probs = predict_case(model, image, loss)
    assert probs.shape == (3, 32, 32, 5)
    assert probs.dtype == np.float32
    assert np.allclose(probs.sum(axis=0), 1, atol=1e-6)
    for z in range(5):
        alone = predict_case(model, image[..., z : z + 1], loss)
        assert np.allclose(probs[..., z], alone[..., 0], atol=1e-6)


@pytest.mark.parametrize(("n_pixels", "sizes"), [(1, [1] * 5), (2048, [2, 2, 1]), (10**6, [5])])
def test_as_many_slices_at_once_as_the_cache_holds(n_pixels, sizes, image, monkeypatch):
    model, found = UNet(1, 2, widths=(4, 8)).eval(), []
    whole = predict_logits(model, image, "ce")
    model.register_forward_pre_hook(lambda _, inputs: found.append(len(inputs[0])))
    monkeypatch.setitem(inference.PIXELS_AT_ONCE, "cpu", n_pixels)
    assert np.allclose(predict_logits(model, image, "ce"), whole, atol=1e-5)
    assert found == sizes


@pytest.mark.parametrize("network", [UNet, ResidualUNet])
def test_a_network_of_volumes_sees_the_whole_at_once(network, image):
    sizes = {"widths": (4, 8), "n_dims": 3} if network is UNet else {"n_features": 2, "n_stages": 4}
    model = network(1, 2, **sizes).eval()
    volume = image.repeat(4, axis=-1)[..., :16]
    with torch.no_grad():
        logits = model(torch.from_numpy(volume[np.newaxis]))[0].numpy()
    assert np.allclose(predict_logits(model, volume, "ce"), logits, atol=1e-4)


def test_binary_dice_probability_is_the_sigmoid(settings, image):
    model = build_model(settings("dice")).eval()
    logits = predict_logits(model, image, "dice")
    assert not logits[0].any()
    with torch.no_grad():
        raw = model(torch.from_numpy(image[..., 2][np.newaxis]))[0].numpy()
    assert np.allclose(logits[1:, ..., 2], raw, atol=1e-5)


def test_dropout_alone_is_switched_on(dropout_model):
    with dropout_switched_on(dropout_model):
        training = {type(module).__name__ for module in dropout_model.modules() if module.training}
        assert training == {"Dropout"}
    assert not any(module.training for module in dropout_model.modules())


def test_passes_differ_repeat_by_seed_and_leave_the_model_alone(dropout_model, image):
    before = {name: tensor.clone() for name, tensor in dropout_model.state_dict().items()}
    first, second = mc_dropout_passes(dropout_model, image, "dice", n_passes=2, seed=3)
    again = next(mc_dropout_passes(dropout_model, image, "dice", n_passes=1, seed=3))
    assert not np.array_equal(first, second)
    assert np.array_equal(first, again)
    after = dropout_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_passes_are_of_a_network_in_evaluation_mode_which_is_then_as_it_was(dropout_model, image):
    expected = list(mc_dropout_passes(dropout_model, image, "dice", n_passes=2, seed=3))
    before = {name: tensor.clone() for name, tensor in dropout_model.state_dict().items()}
    dropout_model.train()
    next(m for m in dropout_model.modules() if isinstance(m, torch.nn.BatchNorm2d)).eval()
    modes = [module.training for module in dropout_model.modules()]
    passes = mc_dropout_passes(dropout_model, image, "dice", n_passes=2, seed=3)
    assert np.array_equal(next(passes), expected[0])
    assert [module.training for module in dropout_model.modules()] == modes  # nor is it closed
    assert np.array_equal(next(passes), expected[1])
    assert [module.training for module in dropout_model.modules()] == modes
    after = dropout_model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_passes_draw_one_stream_of_random_numbers(dropout_model, image):
    with torch.random.fork_rng(), dropout_switched_on(dropout_model):
        torch.manual_seed(3)
        expected = [predict_case(dropout_model, image, "dice") for _ in range(3)]
    found = list(mc_dropout_passes(dropout_model, image, "dice", n_passes=3, seed=3))
    assert np.array_equal(found, expected)


def test_what_is_done_between_passes_changes_none_and_is_not_changed(dropout_model, image):
    expected = list(mc_dropout_passes(dropout_model, image, "dice", n_passes=3, seed=3))
    usual = predict_case(dropout_model, image, "dice")
    others = mc_dropout_passes(dropout_model, image, "dice", n_passes=3, seed=4)
    with torch.random.fork_rng():
        torch.manual_seed(8)
        drawn = torch.rand(3)
        torch.manual_seed(8)
        passes, found, drawn_between = [], [], []
        for probs in mc_dropout_passes(dropout_model, image, "dice", n_passes=3, seed=3):
            passes.append(probs)
            next(others)
            found.append(predict_case(dropout_model, image, "dice"))
            drawn_between.append(torch.rand(1))
    assert np.array_equal(passes, expected)
    assert all(np.array_equal(probs, usual) for probs in found)
    assert torch.equal(torch.cat(drawn_between), drawn)


class TwoDropouts(torch.nn.Module):
    """A convolution between two dropout layers; `scale` weighs what the first lets through."""

    def __init__(self, first, second, scale=1.0):
        super().__init__()
        self.first, self.second, self.scale = first, second, scale
        self.convolution = torch.nn.Conv2d(1, 3, 3, padding=1)

    def forward(self, images):
        features = self.convolution(self.first(images))
        as_1d = isinstance(self.second, torch.nn.Dropout1d)
        noisy = self.second(features.flatten(2) if as_1d else features).reshape(features.shape)
        return self.scale * noisy + self.convolution(images)


KINDS = [
    torch.nn.Dropout,
    torch.nn.Dropout1d,
    torch.nn.Dropout2d,
    torch.nn.Dropout3d,
    torch.nn.AlphaDropout,
    torch.nn.FeatureAlphaDropout,
]


@pytest.mark.filterwarnings("ignore:dropout")  # PyTorch's, on shapes that a kind is not made for
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_dropout_layer_acts_beside_one_that_is_off(kind, image):
    torch.manual_seed(0)
    model = TwoDropouts(torch.nn.Dropout(0.0), kind(0.5)).eval()
    with warnings.catch_warnings(action="error", category=UserWarning):
        warnings.filterwarnings("ignore", message="dropout")
        passes = list(mc_dropout_passes(model, image, "ce", n_passes=3))
    assert not np.array_equal(passes[0], passes[1])
    assert not any(module.training for module in model.modules())


@pytest.mark.parametrize("name", ["SegResNet", "VNet"])
def test_networks_of_monai_drop_whole_channels(name):
    from monai.networks import nets

    torch.manual_seed(0)
    if name == "VNet":
        model = nets.VNet(in_channels=1, out_channels=2, dropout_prob_down=0.5).eval()
    else:
        options = {"spatial_dims": 3, "init_filters": 8, "dropout_prob": 0.5}
        model = nets.SegResNet(**options).eval()
    model.n_dims = 3
    image = np.random.default_rng(0).random((1, 16, 16, 16), dtype=np.float32)
    first, second = mc_dropout_passes(model, image, "ce", n_passes=2)
    assert not np.array_equal(first, second)


def test_dropout_that_is_off_or_called_as_a_function_is_none(image):
    class Functional(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.convolution = torch.nn.Conv2d(1, 2, 1)

        def forward(self, images):
            return torch.nn.functional.dropout(self.convolution(images), training=self.training)

    off = TwoDropouts(torch.nn.Dropout(0.0), torch.nn.Dropout2d(0.0))
    for model in (off, Functional()):
        message = "no dropout layer with p above 0 .dropout called as a function cannot be seen"
        with pytest.raises(ValueError, match=message):
            next(mc_dropout_passes(model.eval(), image, "ce"))


def test_passes_that_do_not_differ_are_told(image):
    dead = TwoDropouts(torch.nn.Dropout(0.5), torch.nn.Dropout2d(0.5), scale=0.0).eval()
    with pytest.warns(UserWarning, match="two passes with dropout that are equal in every voxel"):
        list(mc_dropout_passes(dead, image, "ce", n_passes=2))
    with warnings.catch_warnings(action="error"):
        list(mc_dropout_passes(dead, image, "ce", n_passes=1))  # nothing to compare


def test_outputs_are_counted_where_k_is_known(image):
    model = torch.nn.Conv2d(1, 2, 1)
    assert len(predict_case(model, image, "ce", n_classes=2)) == 2
    calls = [
        lambda: predict_logits(model, image, "dice", n_classes=2),
        lambda: predict_case(model, image, "dice", n_classes=2),
        lambda: next(
            mc_dropout_passes(
                torch.nn.Sequential(model, torch.nn.Dropout()), image, "dice", n_classes=2
            )
        ),
        lambda: predict_volume(
            torch.nn.Conv3d(1, 2, 1), np.zeros((1, 8, 8, 8)), "dice", (8,) * 3, 2, n_classes=2
        ),
    ]
    for call in calls:
        with pytest.raises(ValueError, match="found 2 outputs .*'dice', expected 1 for 2 classes"):
            call()
    with pytest.raises(ValueError, match="found 1 outputs .* expected at least 2"):
        predict_case(torch.nn.Conv2d(1, 1, 1), image, "ce")


class Ending(torch.nn.Module):
    """Somebody's network of slices or volumes, whose forward ends in a way of its own."""

    def __init__(self, end, kind=torch.nn.Conv2d):
        super().__init__()
        self.convolution, self.dropout, self.end = kind(1, 2, 1), torch.nn.Dropout(), end
        with torch.no_grad():  # each voxel goes to both ends
            self.convolution.weight[0], self.convolution.weight[1] = 1, -1
        self.n_dims = 3 if kind is torch.nn.Conv3d else 2

    def forward(self, images):
        return self.end(self.dropout(50 * self.convolution(images)))


ENDINGS = {
    "deep supervision": (lambda maps: [maps, maps[..., ::2, ::2]], "an output of type list"),
    "a dict": (lambda maps: {"out": maps}, "an output of type dict"),
    "NumPy": (lambda maps: maps.detach().numpy(), "an output of type ndarray"),
    "channels last": (lambda maps: maps.movedim(1, -1), r"an output of shape \(\d+, .* 2\)"),
    "half the resolution": (lambda maps: maps[..., ::2, ::2], "an output of shape"),
    "no batch": (lambda maps: maps[0], "an output of shape"),
    "a softmax": (lambda maps: maps.softmax(dim=1), "an output of probabilities"),
    "a mild softmax": (
        lambda maps: (maps / 99).softmax(dim=1).half(),
        "an output of probabilities",
    ),
    "a sigmoid": (lambda maps: maps.sigmoid(), "an output of probabilities"),
}


@pytest.mark.parametrize("name", ENDINGS)
def test_a_network_that_puts_out_no_map_of_logits_is_told(name, image):
    end, found = ENDINGS[name]
    slices, volumes = Ending(end).eval(), Ending(end, torch.nn.Conv3d).eval()
    calls = [
        lambda: predict_case(slices, image, "ce"),
        lambda: predict_logits(volumes, image, "ce", n_classes=2),
        lambda: next(mc_dropout_passes(slices, image, "ce")),
        lambda: predict_volume(volumes, image, "ce", (4,) * 3, 2),
    ]
    for call in calls:
        with pytest.raises(ValueError, match=f"model: found {found}.*, expected"):
            call()


@pytest.mark.parametrize(
    "end",
    [
        lambda maps: torch.full_like(maps, 0.5),  # of air, where each voxel's sum may be 1
        lambda maps: 0.2 + 0.6 * maps.sigmoid(),  # of a network that has not been trained
        lambda maps: 2 * maps.softmax(dim=1) - 1,
    ],
)
def test_small_logits_are_not_taken_for_probabilities(end, image):
    assert predict_case(Ending(end).eval(), image, "ce").shape == (2, *image.shape[1:])


def test_our_own_models_know_what_their_outputs_are(settings, image):
    model = build_model(settings("ce")).eval()
    with pytest.raises(ValueError, match="found 3 outputs .*'dice', expected 2 for 3 classes"):
        predict_case(model, image, "dice")


@pytest.mark.parametrize("loss", ["ce", "dice", "ce_dice"])
def test_regions_are_binary_problems_side_by_side(loss, settings, image):
    chosen = replace(settings(loss), n_classes=2, regions=((1, 2), (2,)))
    model = build_model(chosen).eval()
    probs = predict_case(model, image, loss)
    assert probs.shape == (2, 2, 32, 32, 5)
    with torch.no_grad():
        raw = torch.sigmoid(model(torch.from_numpy(image[..., 2][np.newaxis])))[0].numpy()
    assert np.allclose(probs[1, ..., 2], raw, atol=1e-5)
    assert np.allclose(probs.sum(axis=0), 1, atol=1e-6)
    with pytest.raises(ValueError, match="model: found overlapping regions"):
        predict_volume(model, image, loss)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lambda image: image[0], r"found shape \(32, 32, 5\), expected \(C, X, Y, Z\)"),
        (lambda image: image[..., :0], "found shape .* expected .* with voxels"),
        (lambda image: image.repeat(2, axis=0), "found 2 channels, expected 1, as the model was"),
        (lambda image: image * np.float32(np.nan), "found 5120 NaN or infinite values"),
    ],
)
def test_an_image_that_no_network_takes_is_told(change, told, dropout_model, image):
    for predict in (predict_case, lambda *of: next(mc_dropout_passes(*of))):
        with pytest.raises(ValueError, match=f"^image: {told}"):
            predict(dropout_model, change(image), "dice")


@pytest.mark.parametrize("precision", [torch.bfloat16, torch.float64])
def test_images_come_in_the_precision_of_the_network(precision, image):
    slices, volumes = UNet(1, 2, widths=(4, 8)).eval(), torch.nn.Conv3d(1, 2, 3, padding=1)
    blocks = {"block_size": (16, 16, 5), "overlap": 2}
    expected = predict_case(slices, image, "ce"), predict_volume(volumes, image, "ce", **blocks)
    slices, volumes = slices.to(precision), volumes.to(precision)
    found = predict_case(slices, image, "ce"), predict_volume(volumes, image, "ce", **blocks)
    for probs, exact in zip(found, expected, strict=True):
        assert probs.dtype == np.float32
        assert np.allclose(probs, exact, atol=0.05)


def test_a_network_of_slices_sees_no_blocks(dropout_model, image):
    with pytest.raises(ValueError, match="^model: found a network of slices, expected one of vol"):
        predict_volume(dropout_model, image, "dice")


def test_mc_dropout_needs_dropout(settings, image):
    model = build_model(settings("dice")).eval()
    with pytest.raises(ValueError, match="model: found no dropout layer"):
        next(mc_dropout_passes(model, image, "dice"))


def test_features_are_those_in_front_of_the_output(settings, image):
    model = build_model(settings("ce")).eval()
    with recorded_features(model.last_features) as features:
        logits = predict_logits(model, image, "ce")
    assert [block.shape for block in features] == [(5, 4, 32, 32)]
    weight, bias = model.output.weight.detach().numpy()[:, :, 0, 0], model.output.bias
    by_hand = np.einsum("kc,zcxy->kxyz", weight, features[0])
    by_hand += bias.detach().numpy().reshape(-1, 1, 1, 1)
    assert np.allclose(by_hand, logits, atol=1e-4)
    predict_logits(model, image, "ce")
    assert len(features) == 1  # the hook is gone


def test_a_loaded_model_predicts_as_the_trained_one(prepared, settings, tmp_path):
    train_model(tmp_path, prepared[2], settings("ce"), "cpu")
    model, loaded = load_model(tmp_path, "cpu")
    assert not model.training
    assert (loaded.loss, loaded.seed) == ("ce", 0)
    assert loaded == settings("ce")
    case = read_prepared(prepared[2])[0]
    assert np.array_equal(
        predict_case(model, case.image, "ce"),
        predict_case(load_model(tmp_path, "cpu")[0], case.image, "ce"),
    )


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no weights.safetensors"):
        load_model(tmp_path)


def test_passes_seed_no_device_but_the_networks_own(dropout_model, image, monkeypatch):
    seeded = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    assert len(list(mc_dropout_passes(dropout_model, image, "dice", n_passes=2, seed=3))) == 2
    assert not seeded
    torch.manual_seed(3)
    assert seeded == [3]  # which is how it would be seen


def test_a_frozen_network_has_no_parameter_and_predicts_all_the_same(image):
    network = torch.nn.Conv2d(len(image), 2, 1).eval()
    frozen = torch.jit.freeze(torch.jit.script(network))
    assert not list(frozen.parameters())
    assert np.allclose(predict_case(frozen, image, "ce"), predict_case(network, image, "ce"))
