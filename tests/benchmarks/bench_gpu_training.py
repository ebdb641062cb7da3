"""Time one training step of paper A's U-Net on a GPU, in every way that was considered.

Run by hand, where CUDA is: python tests/benchmarks/bench_gpu_training.py FILE.csv SECONDS. Each way
trains on the same random slices, at the paper's settings (224 x 224, 32 a mini-batch), where the
memory's speed is the limit, and at a small size (64 x 64, 4), where handing in kernels is.
`bound_ms` is the time in which the memory moves the bytes that a step cannot do without, at the
speed measured here.
"""

import sys
import time
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import numpy as np
import pandas as pd
import torch
from textbook_unet import as_textbook
from torch import nn
from torch.func import functional_call, grad_and_value, stack_module_state, vmap

from segcal_lite.data.tasks import TASKS
from segcal_lite.experiments import get_profile
from segcal_lite.losses import training_loss
from segcal_lite.runs.provenance import provenance
from segcal_lite.training import loop, on_slices
from segcal_lite.training.models import TrainingSettings, build_model
from segcal_lite.training.on_slices import SliceTraining
from segcal_lite.training.recorded import RecordedEpoch
from segcal_lite.unet import DecoderBlock

SIZES = {"paper": (224, 32, 12 * 32), "small": (64, 4, 32 * 4)}  # side, mini-batch, slices
N_VALIDATION = {"paper": 105, "small": 32}
HALF, PLAIN = {"precision": "bfloat16"}, {"layout": torch.contiguous_format}
TEXTBOOK = {"textbook": True}
WAYS = {  # name, options of `build`, numbers of lanes
    "paper": [
        ("recorded, bfloat16", HALF, (1, 3)),
        ("recorded", {}, (1, 3)),
        ("recorded, bfloat16, channels first", HALF | PLAIN, (1, 3)),
        ("recorded, channels first", PLAIN, (1,)),
        ("recorded, bfloat16, textbook", HALF | TEXTBOOK, (1, 3)),
        ("compiled, recorded, bfloat16", HALF | {"compiled": True}, (1, 3)),
        ("compiled, recorded, bfloat16, textbook", HALF | TEXTBOOK | {"compiled": True}, (1, 3)),
        ("eager, bfloat16", HALF | {"recorded": False}, (1,)),
        ("eager", {"recorded": False}, (1,)),
    ],
    "small": [
        ("eager", {"recorded": False}, (1,)),
        ("recorded", {}, (1, 4, 8)),
        ("recorded, channels first", PLAIN, (4,)),
        ("recorded, textbook", TEXTBOOK, (4,)),
    ],
}


def settings_of(side, batch_size, loss="dice", **changes):
    """Settings of the heart's task at another size."""
    task = TASKS["heart"]
    profile = get_profile("paper", task, crop_size=(side, side))
    profile = replace(profile, batch_size=batch_size, **changes)
    return TrainingSettings.gather(task, profile, "random", loss, 0)


def random_cases(side, n_train, n_validation):
    """Cases as `load_slices` wants them: noise, with discs of the three segments."""
    rng = np.random.default_rng(0)
    grid = np.indices((side, side)) - side / 2
    disc = np.digitize(np.hypot(*grid), [side / 12, side / 8, side / 6])
    cases = []
    for split, n in (("train", n_train), ("validation", n_validation)):
        targets = np.repeat((3 - disc)[..., np.newaxis], n, axis=2).astype(np.uint8)
        image = (0.2 * targets + 0.2 * rng.normal(size=targets.shape)).astype(np.float32)
        cases.append(SimpleNamespace(split=split, image=image[np.newaxis], targets=targets))
    return cases


def build(
    name, cases, device, recorded=True, compiled=False, layout=None, textbook=False, **changes
):
    """Return a training of one way: recorded or not, compiled or not, in a precision or layout.

    `textbook`: the network up-samples and joins before it convolves.
    """
    side, batch_size, _ = SIZES[name]
    settings = settings_of(side, batch_size, **changes)
    with (
        mock.patch.object(on_slices.Training, "begin", lambda *others, **named: None),
        mock.patch.object(on_slices, "can_be_recorded", lambda *others: recorded),
        mock.patch.object(on_slices, "build_model", build_textbook if textbook else build_model),
        in_layout(layout),
    ):
        training = SliceTraining(None, cases, settings, device, compiled=compiled)
    training.numbers = {"history": []}
    training.rate = 1e-3
    return training


def build_textbook(settings):
    """Return the network in the textbook's form."""
    return as_textbook(build_model(settings))


@contextmanager
def in_layout(layout):
    """Let networks and mini-batches have another layout than channels last."""
    with ExitStack() as stack:
        for module in (loop, on_slices) if layout else ():
            stack.enter_context(mock.patch.object(module, "memory_layout", lambda n_dims: layout))
        yield


def seconds_of(work, n_repeats):
    """The median time of some repeats, the first of which does not count."""
    times = []
    for _ in range(n_repeats + 1):
        torch.cuda.synchronize()
        start = time.perf_counter()
        work()
        torch.cuda.synchronize()
        times.append(time.perf_counter() - start)
    return float(np.median(times[1:]))


def epochs_of(trainings):
    """One epoch of each, handed in before the first is waited for; validation included."""

    def work():
        for training in trainings:
            training.start()
        for training in trainings:
            training.train_and_evaluate()

    return work


class VmappedGroup:
    """M members as one: stacked weights, `vmap` over them, Adam on the stack."""

    def __init__(self, name, cases, device, n_members):
        side, self.batch_size, _ = SIZES[name]
        self.settings = settings_of(side, self.batch_size)
        models = [build_model(replace(self.settings, seed=s)).to(device) for s in range(n_members)]
        params, self.buffers = stack_module_state(models)
        self.params = {k: v.detach().requires_grad_() for k, v in params.items()}
        self.base = models[0].train()
        self.optimiser = torch.optim.Adam(self.params.values(), 1e-3, fused=True, capturable=True)
        images, labels = cases[0].image, cases[0].targets
        self.images = torch.from_numpy(np.moveaxis(images, -1, 0).copy()).to(device)
        self.labels = torch.from_numpy(np.moveaxis(labels, -1, 0).astype(np.int64)).to(device)
        self.weights = torch.tensor(self.settings.dice_weights, device=device)
        self.n_members = n_members

    def loss(self, params, buffers, images, labels):
        logits = functional_call(self.base, (params, buffers), (images,))
        options = {"dice_weights": self.weights, "check_values": False}
        return training_loss(logits, labels, "dice", **options)

    def step(self, indices):
        """One step of all members, each on its own mini-batch: `indices` is (M, B)."""
        gradients, losses = vmap(grad_and_value(self.loss), randomness="different")(
            {name: tensor.detach() for name, tensor in self.params.items()},
            self.buffers,
            self.images[indices],
            self.labels[indices],
        )
        for name, tensor in self.params.items():
            tensor.grad = gradients[name]
        self.optimiser.step()
        return losses

    def epoch(self, order):
        for indices in order.split(self.batch_size):
            self.step(torch.stack([indices.roll(m) for m in range(self.n_members)]))
        return lambda: ()


def bytes_of_step(settings, device="cpu"):
    """Bytes that forward and backward move at least, every layer by itself but BN with its ReLU.

    A convolution reads its input and writes its output; backward it reads the output's gradient
    twice and its input once, and writes the input's gradient. Batch normalisation reads twice
    (statistics, values) and writes once; backward it reads values and gradients twice and writes
    once. Pooling reads and writes once in each direction. A block of the decoder convolves what is
    below and the skip, each by itself, and adds the two, whose gradients are one.
    """
    total, hooks, model = [0], [], build_model(settings)

    def count(layer, inputs, output):
        read, written = sum(one.numel() for one in inputs), output.numel()
        if isinstance(layer, nn.Conv2d):
            total[0] += 3 * read + 3 * written
        elif isinstance(layer, DecoderBlock):  # what stands before its batch normalisation
            total[0] += 3 * read + 2 * 3 * written + 3 * written
        elif isinstance(layer, nn.BatchNorm2d):
            total[0] += 8 * read
        elif isinstance(layer, nn.MaxPool2d):
            total[0] += 2 * (read + written)

    for layer in model.modules():
        hooks.append(layer.register_forward_hook(count))
    with torch.no_grad():
        model(torch.zeros(1, settings.n_channels, *settings.crop_size))
    width = 2 if settings.precision == "bfloat16" else 4
    return total[0] * settings.batch_size * width


def copy_speed():
    """Bytes a second of a large copy on the device, read and written."""
    source = torch.rand(2**29, device="cuda")
    target = torch.empty_like(source)
    return 2 * 4 * source.numel() / seconds_of(lambda: target.copy_(source), 5)


def main(path, seconds=600):
    """Time every way at both sizes, as far as the time reaches, and write one table."""
    device, rows, until = torch.device("cuda"), [], time.monotonic() + float(seconds)
    speed = copy_speed()
    print(f"memory moves {speed / 1e12:.2f} TB/s", flush=True)
    for name, (side, batch_size, n_slices) in SIZES.items():
        cases = random_cases(side, n_slices, N_VALIDATION[name])
        n_steps = n_slices // batch_size
        for way, options, lanes in WAYS[name]:
            if time.monotonic() > until:
                continue
            started, trainings = time.perf_counter(), []
            precision = options.get("precision", "float32")
            bound = bytes_of_step(settings_of(side, batch_size, precision=precision)) / speed
            for n_lanes in lanes:
                try:
                    while len(trainings) < n_lanes:
                        trainings.append(build(name, cases, device, **options))
                    made = time.perf_counter() - started
                    seconds = seconds_of(epochs_of(trainings), 5)
                except Exception as error:  # a way that does not work here is a row of its own
                    print(f"{name} {way}: {type(error).__name__}: {error}"[:300], flush=True)
                    break
                row = {"size": name, "way": way, "lanes": n_lanes}
                row |= {"ms_a_step_and_member": 1e3 * seconds / n_steps / n_lanes}
                rows.append(row | {"bound_ms": 1e3 * bound, "seconds_to_make": made})
                print(rows[-1], flush=True)
            del trainings
            torch.cuda.empty_cache()
        for n_members in (4, 16) if name == "small" else ():
            if time.monotonic() > until:
                break
            try:
                group = VmappedGroup(name, cases, device, n_members)
                recorded = RecordedEpoch(group.epoch, n_slices, device)
                order = torch.arange(n_slices)
                seconds = seconds_of(lambda r=recorded, o=order: r(o)(), 3)
            except Exception as error:
                print(f"{name} vmap: {type(error).__name__}: {error}"[:300], flush=True)
                break
            row = {"size": name, "way": "vmap, recorded (no validation)", "lanes": n_members}
            rows.append(row | {"ms_a_step_and_member": 1e3 * seconds / n_steps / n_members})
            print(rows[-1], flush=True)
            del group, recorded
            torch.cuda.empty_cache()
        pd.DataFrame(rows).assign(**provenance("cuda")).to_csv(path, index=False)


if __name__ == "__main__":
    main(*sys.argv[1:])
