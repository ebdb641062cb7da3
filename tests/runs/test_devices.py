import pytest
import torch

from segcal_lite.runs.devices import choose_device, reproducible
from segcal_lite.training.on_slices import augment_slices


def test_auto_prefers_cuda_then_mps_then_cpu(monkeypatch):
    for has_cuda, has_mps, expected in (
        (True, True, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ):
        monkeypatch.setattr(torch.cuda, "is_available", lambda has=has_cuda: has)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda has=has_mps: has)
        assert choose_device("auto").type == expected


def test_a_device_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="device: found 'cuda:2', expected a device that PyTorch"):
        choose_device("cuda:2")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    for name in ("cuda", "mps", torch.device("cuda")):
        with pytest.raises(ValueError, match="device: found"):
            choose_device(name)


def test_an_unknown_device_is_refused():
    with pytest.raises(ValueError, match="device: found 'tpu', expected one of 'auto'"):
        choose_device("tpu")


def test_the_state_outside_is_left_alone():
    n_threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    with reproducible(torch.device("cpu")):
        assert torch.get_num_threads() == 1
        torch.manual_seed(5)
        torch.rand(3)
    assert torch.get_num_threads() == n_threads
    assert torch.equal(torch.random.get_rng_state(), state)


@pytest.mark.parametrize("shape", [(8, 8), (8, 6)])
def test_images_and_labels_turn_together_and_keep_their_values(shape):
    labels = torch.arange(2 * shape[0] * shape[1]).reshape(2, *shape)
    seen = set()
    for seed in range(40):
        torch.manual_seed(seed)
        images, turned = augment_slices(labels[:, None].double(), labels, noise=0.0)
        assert turned.shape == labels.shape
        assert torch.equal(images[:, 0].long(), turned)
        assert torch.equal(turned.flatten(1).sort(dim=1).values, labels.flatten(1))
        seen.add(tuple(turned.flatten().tolist()))
    assert len(seen) == (8 if shape[0] == shape[1] else 4)  # the symmetries of a square, a box


def test_noise_has_the_stated_spread():
    torch.manual_seed(0)
    images, _ = augment_slices(torch.zeros(8, 1, 64, 64), torch.zeros(8, 64, 64), noise=0.05)
    assert images.std().item() == pytest.approx(0.05, rel=0.02)
