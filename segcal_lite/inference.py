"""A volume in, class probabilities out: plain, with MC dropout, and the features behind them."""

from contextlib import contextmanager

import numpy as np
import torch

from ._checks import check_count, wrong_input
from .checkpoints import check_finished, read_weights
from .devices import choose_device, memory_layout
from .losses import class_logits
from .runs import read_json
from .training_settings import TrainingSettings, build_model

N_SLICES_AT_ONCE = 32


def load_model(folder, device="auto"):
    """Load a finished model.

    Parameters
    ----------
    folder : path
        Written by `segcal_lite.training.train_model`.
    device : str

    Returns
    -------
    model : UNet
        In evaluation mode.
    settings : segcal_lite.training.TrainingSettings

    Raises
    ------
    ValueError
        If the folder holds no finished model.
    """
    folder = check_finished(folder)
    settings = TrainingSettings(**read_json(folder / "config.json"))
    model = build_model(settings)
    model.load_state_dict(read_weights(folder))
    model = model.to(choose_device(device), memory_format=memory_layout(model.n_dims))
    return model.eval(), settings


@torch.no_grad()
def predict_logits(model, image, loss):
    """Predict one volume: slice by slice in 2D, at once in 3D.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (B, C, X, Y) to (B, n_outputs, X, Y), or the same with Z if its ``n_dims`` is 3.
    image : array, shape (C, X, Y, Z)
    loss : {"ce", "dice", "ce_dice"}
        What `model` was trained with: it decides what the outputs mean.

    Returns
    -------
    array, float32, shape (K, X, Y, Z)
        Logits whose softmax are the class probabilities.
    """
    device = next(model.parameters()).device
    n_dims = getattr(model, "n_dims", 2)
    samples = image[np.newaxis] if n_dims == 3 else np.moveaxis(image, -1, 0)
    outputs = []
    for batch in torch.from_numpy(np.array(samples, dtype=np.float32)).split(N_SLICES_AT_ONCE):
        batch = batch.to(device).contiguous(memory_format=memory_layout(n_dims))
        outputs.append(class_logits(model(batch), loss).float().cpu())
    logits = outputs[0][0] if n_dims == 3 else torch.cat(outputs).permute(1, 2, 3, 0)
    return np.ascontiguousarray(logits.numpy())


def softmax(logits):
    """Softmax over the first axis, float32 in and out.

    Examples
    --------
    >>> softmax(np.zeros((2, 3), dtype=np.float32))[0].tolist()
    [0.5, 0.5, 0.5]
    """
    return torch.from_numpy(np.asarray(logits)).softmax(dim=0).numpy()


def predict_case(model, image, loss):
    """Class probabilities of one volume, float32, shape (K, X, Y, Z); see `predict_logits`."""
    return softmax(predict_logits(model, image, loss))


@contextmanager
def dropout_switched_on(model):
    """Let only the dropout layers of `model` act as in training; batch normalisation does not."""
    layers = [module for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    if not layers:
        raise wrong_input("model", "no dropout layer", "a model trained with dropout")
    try:
        for layer in layers:
            layer.train()
        yield
    finally:
        for layer in layers:
            layer.eval()


def mc_dropout_passes(model, image, loss, n_passes=50, seed=0):
    """Yield the class probabilities of each stochastic pass over one volume.

    Paper A takes the mean of 50 (section VI.C): ``mean_probability(mc_dropout_passes(...))``.

    Parameters
    ----------
    model, image, loss
        As in `predict_logits`; `model` has dropout layers.
    n_passes : int
    seed : int
        Of the dropout masks.

    Yields
    ------
    array, float32, shape (K, X, Y, Z)
    """
    check_count("n_passes", n_passes)
    device = next(model.parameters()).device
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(seed)
        with dropout_switched_on(model):
            for _ in range(n_passes):
                yield predict_case(model, image, loss)


@contextmanager
def recorded_features(module):
    """Record what `module` puts out while the block runs, through a forward hook.

    Parameters
    ----------
    module : torch.nn.Module
        Any part of a network, such as ``model.last_features``.

    Yields
    ------
    list of arrays
        One (B, C, *S) array a call, in the order of the calls.

    Examples
    --------
    >>> layer = torch.nn.Conv2d(1, 3, kernel_size=1)
    >>> with recorded_features(layer) as features:
    ...     _ = layer(torch.zeros(2, 1, 4, 4))
    >>> features[0].shape
    (2, 3, 4, 4)
    """
    features = []
    hook = module.register_forward_hook(
        lambda module, inputs, output: features.append(output.detach().float().cpu().numpy().copy())
    )
    try:
        yield features
    finally:
        hook.remove()
