import pytest
import torch
from threadpoolctl import threadpool_info

from segcal_lite.runs.devices import choose_device, reproducible
from segcal_lite.training.on_slices import augment_slices


@pytest.fixture
def machine(monkeypatch):
    """Return what lets PyTorch find so many CUDA devices, and MPS or not."""

    def make(n_cuda, has_mps):
        monkeypatch.setattr(torch.cuda, "is_available", lambda: n_cuda > 0)
        monkeypatch.setattr(torch.cuda, "device_count", lambda: n_cuda)
        monkeypatch.setattr(torch.backends.mps, "is_available", lambda: has_mps)

    return make


@pytest.mark.parametrize(
    ("n_cuda", "has_mps", "expected"), [(2, True, "cuda"), (0, True, "mps"), (0, False, "cpu")]
)
def test_auto_prefers_cuda_then_mps_then_cpu(machine, n_cuda, has_mps, expected):
    machine(n_cuda, has_mps)
    assert choose_device("auto").type == expected
    assert (
        choose_device(expected) == choose_device(torch.device(expected)) == torch.device(expected)
    )


def test_a_device_by_number(machine):
    machine(2, False)
    assert choose_device("cuda:1") == torch.device("cuda:1")
    with pytest.raises(ValueError, match="found 'cuda:2', expected one of 'auto', 'cuda', "):
        choose_device("cuda:2")


@pytest.mark.parametrize("name", ["tpu", "cuda", "cuda:0", "mps", "auto:0", "cpu:1", "", None])
def test_a_device_that_is_not_there_is_refused(machine, name):
    machine(0, False)
    with pytest.raises(ValueError, match="device: found .*, expected one of 'auto', 'cpu'"):
        choose_device(name)


def test_the_state_outside_is_left_alone():
    n_threads, state = torch.get_num_threads(), torch.random.get_rng_state()
    of_libraries = threadpool_info()
    with reproducible(torch.device("cpu")):
        assert torch.get_num_threads() == 1
        assert {library["num_threads"] for library in threadpool_info()} == {1}
        torch.manual_seed(5)
        torch.rand(3)
    assert torch.get_num_threads() == n_threads
    assert threadpool_info() == of_libraries
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
