import numpy as np
import pytest
import torch

from segcal_lite.caches import read_prepared
from segcal_lite.inference import (
    dropout_switched_on,
    load_model,
    mc_dropout_passes,
    predict_case,
    predict_logits,
    recorded_features,
)
from segcal_lite.training import train_model
from segcal_lite.training_settings import build_model


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
    case = read_prepared(prepared[2])[0]
    assert np.array_equal(
        predict_case(model, case.image, "ce"),
        predict_case(load_model(tmp_path, "cpu")[0], case.image, "ce"),
    )


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(ValueError, match="no weights.safetensors"):
        load_model(tmp_path)
