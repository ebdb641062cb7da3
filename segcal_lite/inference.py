"""A volume in, class probabilities out: at once, by MC dropout, and the features behind them.

A 2D network sees one slice after another, a 3D network the whole volume: `predict_case`. Paper A
(section VI.C) averages stochastic passes: `mc_dropout_passes`. Paper B (section III.D) wants the
spectral signature of the last feature map: `case_signatures`. Volumes that are too large for one
pass go block by block through `segcal_lite.sliding_window`.
"""

import warnings
from contextlib import contextmanager
from itertools import chain

import numpy as np
import torch

from ._checks import check_count, check_finite, wrong_input
from .losses import class_logits
from .runs.devices import memory_layout
from .spectral import SpectrumSums
from .unet import ResidualUNet, UNet

PIXELS_AT_ONCE = {"cpu": 400_000}  # of slices in a mini-batch: of more, features leave the cache
PIXELS_ELSEWHERE = 1_600_000
OURS = (ResidualUNet, UNet)  # whose outputs are known to be logits
SUM_ROUNDING = 0.01  # by which sums of probabilities in 16 bits may miss 1
DROPOUT_LAYERS = (
    *(torch.nn.Dropout, torch.nn.Dropout1d, torch.nn.Dropout2d, torch.nn.Dropout3d),
    *(torch.nn.AlphaDropout, torch.nn.FeatureAlphaDropout),
)


def predict_case(model, image, loss, n_classes=None):
    """Class probabilities of one volume, float32, shape and arguments as in `predict_logits`."""
    return softmax(predict_logits(model, image, loss, n_classes))


@torch.no_grad()
def predict_logits(model, image, loss, n_classes=None):
    """Predict one volume: slice by slice in 2D, at once in 3D.

    Parameters
    ----------
    model : torch.nn.Module
        Maps (B, C, X, Y) to (B, n_outputs, X, Y), or the same with Z if its ``n_dims`` is 3.
        With an ``n_regions`` above 0 its outputs are sigmoids of overlapping regions. In
        evaluation mode.
    image : array, shape (C, X, Y, Z)
    loss : {"ce", "dice", "ce_dice"}
        What `model` was trained with: it decides what the outputs mean.
    n_classes : int, optional
        K, background included; by default the model's own ``n_label_classes``. Where neither is
        given, nobody can see that `loss` is not the one of the training: two outputs are two
        classes for "ce" and three for "dice".

    Returns
    -------
    array, float32, shape (K, X, Y, Z), or (2, R, X, Y, Z) for overlapping regions
        Logits whose softmax over the first axis are the class probabilities.

    Raises
    ------
    ValueError
        If `image` has not four dimensions, no voxel, other channels than one of our networks takes,
        or a NaN or infinity, or the outputs are not as many as `loss` and K ask for, not one tensor
        (a list of deep supervision, a dict), of another resolution, or probabilities.
    """
    batches = _batches(model, image)
    return _volume(model, (class_logits_of(model, batch, loss, n_classes) for batch in batches))


def _batches(model, image):
    """Yield the mini-batches (B, C, *S) that a volume (C, X, Y, Z) goes through a network in."""
    image, n_dims = checked_image(model, image), getattr(model, "n_dims", 2)
    parameter = a_parameter(model)
    samples = image[np.newaxis] if n_dims == 3 else np.moveaxis(image, -1, 0)
    n_pixels = PIXELS_AT_ONCE.get(parameter.device.type, PIXELS_ELSEWHERE)
    n_at_once = max(1, n_pixels // int(np.prod(samples.shape[2:])))
    for batch in torch.from_numpy(np.array(samples)).split(n_at_once):
        batch = batch.to(parameter)  # its device and its precision
        yield batch.contiguous(memory_format=memory_layout(n_dims))


def a_parameter(model):
    """Return a network's first parameter or buffer of floats, or a number where it has neither."""
    tensors = chain(model.parameters(), model.buffers())
    return next(filter(torch.is_floating_point, tensors), torch.zeros(()))


def checked_image(model, image):
    """Return an image (C, X, Y, Z) as float32, if `model` can take it."""
    image = np.asarray(image, dtype=np.float32)
    if image.ndim != 4 or not image.size:
        raise wrong_input("image", f"shape {image.shape}", "(C, X, Y, Z) with voxels")
    if isinstance(model, OURS):  # of other networks the first module may be any
        convolutions = torch.nn.Conv2d, torch.nn.Conv3d
        first = next(m for m in model.modules() if isinstance(m, convolutions))
        if len(image) != first.in_channels:
            expected = f"{first.in_channels}, as the model was trained with"
            raise wrong_input("image", f"{len(image)} channels", expected)
    return check_finite("image", image)


def _volume(model, outputs):
    """Return mini-batches of outputs as one array (K, X, Y, Z) in float32, each off its device."""
    outputs = [output.float().cpu() for output in outputs]
    is_volume = getattr(model, "n_dims", 2) == 3
    logits = outputs[0][0] if is_volume else torch.cat(outputs).movedim(0, -1)
    return np.ascontiguousarray(logits.numpy())


def class_logits_of(model, images, loss, n_classes=None, **known):
    """Class logits of a mini-batch (B, C, *S), the number of outputs checked where K is known."""
    if n_classes is None:
        n_classes = getattr(model, "n_label_classes", None)
    outputs = model(images, **known)
    if not isinstance(model, OURS):
        _check_outputs(outputs, images)
    return class_logits(outputs, loss, n_classes, getattr(model, "n_regions", 0))


def _check_outputs(outputs, images):
    """Refuse what somebody's network may put out in place of one map of logits."""
    voxels = tuple(images.shape[2:])
    expected = f"one tensor (B, n_outputs, *S) with S = {voxels}; of several, a wrapper returns one"
    if not isinstance(outputs, torch.Tensor):
        raise wrong_input("model", f"an output of type {type(outputs).__name__}", expected)
    if tuple(outputs.shape[2:]) != voxels:
        raise wrong_input("model", f"an output of shape {tuple(outputs.shape)}", expected)
    if _are_probabilities(outputs):
        expected = "logits: leave out the softmax or sigmoid at its end"
        raise wrong_input("model", "an output of probabilities", expected)


def _are_probabilities(outputs):
    """Whether outputs from 0 to 1 add up to 1 or reach both ends, as logits hardly would.

    Where all voxels are the same, a sum of 1 may be chance.
    """
    lowest, highest = (float(end) for end in outputs.aminmax())
    if not 0 <= lowest <= highest <= 1:
        return False
    if lowest < 0.01 and highest > 0.99:
        return True
    voxels = outputs.float().flatten(2)
    add_up = ((voxels.sum(dim=1) - 1).abs() < SUM_ROUNDING).all()
    return bool(add_up and (voxels != voxels[..., :1]).any())


def softmax(logits):
    """Softmax over the first axis, float32 in and out.

    Examples
    --------
    >>> softmax(np.zeros((2, 3), dtype=np.float32))[0].tolist()
    [0.5, 0.5, 0.5]
    """
    return torch.from_numpy(np.asarray(logits)).softmax(dim=0).numpy()


def mc_dropout_passes(model, image, loss, n_passes=50, seed=0, n_classes=None):
    """Yield the class probabilities of each stochastic pass over one volume.

    Paper A takes the mean of 50 (section VI.C): ``mean_probability(mc_dropout_passes(...))``.

    Parameters
    ----------
    model, image, loss, n_classes
        As in `predict_logits`; `model` has dropout layers, of any of PyTorch's kinds. Dropout that
        it calls as a function (``torch.nn.functional.dropout``) cannot be switched on. During a
        pass the rest of it is in evaluation mode; between passes all is as it was.
    n_passes : int
    seed : int
        Of the dropout masks.

    Yields
    ------
    array, float32, shape (K, X, Y, Z), or (2, R, X, Y, Z) for overlapping regions
        With a warning if the first two are equal.

    Raises
    ------
    ValueError
        If no dropout layer has a probability above 0, or as in `predict_logits`.
    """
    batches = list(_batches(model, image))
    known = [{} for _ in batches]
    if hasattr(model, "features_before_dropout"):  # of our own networks: the same in every pass
        with torch.no_grad(), in_evaluation(model):
            known = [{"before_dropout": model.features_before_dropout(b)} for b in batches]

    @torch.no_grad()
    def predict():
        pairs = zip(batches, known, strict=True)
        outputs = (class_logits_of(model, b, loss, n_classes, **more) for b, more in pairs)
        return softmax(_volume(model, outputs))

    return stochastic_passes(model, predict, n_passes, seed)


def stochastic_passes(model, predict, n_passes, seed):
    """Yield `n_passes` times what ``predict()`` returns with the dropout of `model` switched on.

    The passes draw from random numbers of their own, one after another; between them those of
    everyone else, and the modes of `model`, are as they were.
    """
    check_count("n_passes", n_passes)
    device = a_parameter(model).device
    gpus = [device] if device.type == "cuda" else []
    first = states = None
    for number in range(n_passes):
        with torch.random.fork_rng(devices=gpus), dropout_switched_on(model):
            if states is None:
                _seed(seed, device)
            else:  # go on where the last pass stopped
                torch.set_rng_state(states[0])
                for gpu, state in zip(gpus, states[1:], strict=True):
                    torch.cuda.set_rng_state(state, gpu)
            probs = predict()
            states = [torch.get_rng_state(), *map(torch.cuda.get_rng_state, gpus)]
        if number == 1 and np.array_equal(probs, first):
            told = "found two passes with dropout that are equal in every voxel"
            warnings.warn(f"model: {told}; the mean of all is one pass.", stacklevel=2)
        first = probs if number == 0 else None
        yield probs


def _seed(seed, device):
    """Seed the random numbers of a network on `device`; those of other devices stay."""
    torch.default_generator.manual_seed(seed)
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    elif device.type == "mps":
        torch.mps.manual_seed(seed)


@contextmanager
def in_evaluation(model):
    """Have a network in evaluation mode; afterwards each of its modules is as it was."""
    modes = {module: module.training for module in model.modules()}
    try:
        model.eval()
        yield
    finally:
        for module, mode in modes.items():
            module.training = mode


@contextmanager
def dropout_switched_on(model):
    """Let only the dropout layers of `model` act as in training; afterwards all is as it was."""
    layers = [m for m in model.modules() if isinstance(m, DROPOUT_LAYERS) and m.p > 0]
    if not layers:
        found = "no dropout layer with p above 0 (dropout called as a function cannot be seen)"
        raise wrong_input("model", found, "a model trained with dropout layers")
    with in_evaluation(model):
        for layer in layers:
            layer.train()
        yield


def case_signatures(model, cases, loss):
    """Spectral signatures of many cases, paper B, section III.D.

    Parameters
    ----------
    model, loss
        As in `case_spectrum`.
    cases : list of PreparedCase

    Returns
    -------
    array, float64, shape (n_cases, r)
        r is the number of channels; singular values in descending order.
    """
    return np.stack([case_spectrum(model, case, loss).signature() for case in cases])


def case_spectrum(model, case, loss):
    """Sums for the spectrum of one case's last feature map; padding is left out.

    Paper B takes the map in front of the 1 x 1 x 1 output. Here that is the outermost block of the
    decoder: as many channels as the first encoder block, full resolution, every slice once.

    Parameters
    ----------
    model : UNet or ResidualUNet
    case : segcal_lite.data.prepared.PreparedCase
    loss : {"ce", "dice", "ce_dice"}

    Returns
    -------
    segcal_lite.spectral.SpectrumSums
    """
    return predict_with_spectrum(model, case, loss)[1]


def predict_with_spectrum(model, case, loss):
    """Class probabilities of one case, as `predict_case`, and its `case_spectrum`, in one pass.

    Parameters
    ----------
    model, case, loss
        As in `case_spectrum`.

    Returns
    -------
    probs : array, float32, shape (K, X, Y, Z)
    spectrum : segcal_lite.spectral.SpectrumSums
    """
    with recorded_features(model.last_features) as blocks:
        probs = predict_case(model, case.image, loss)
    spectrum = SpectrumSums(blocks[0].shape[1])
    for block in blocks:  # (1, C, X, Y, Z), or slices (n, C, X, Y) of which none is padding
        is_volume = block.ndim == 5
        maps = block[0] if is_volume else np.moveaxis(block, 1, 0)
        spectrum.update(maps[:, *(case.whole if is_volume else (slice(None), *case.whole[:2]))])
    return probs, spectrum


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

    def record(module, inputs, output):
        if not isinstance(output, torch.Tensor):
            found = f"an output of type {type(output).__name__}"
            raise wrong_input("layer", found, "one tensor (B, C, *S): name a layer within it")
        features.append(output.detach().float().cpu().numpy().copy())

    hook = module.register_forward_hook(record)
    try:
        yield features
    finally:
        hook.remove()
