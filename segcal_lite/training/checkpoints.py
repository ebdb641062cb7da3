"""Trainings that can be interrupted: what those on slices and on blocks share, and their files.

After an evaluation all state goes into one safetensors file, whole or not at all: after each one,
or on CUDA, where an epoch is shorter than the writing, after some seconds.
"""

import json
import os
import time
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save

from .._checks import wrong_input
from ..losses import training_loss
from ..runs.devices import choose_device, memory_layout, reproducible
from ..runs.folders import (
    check_same_settings,
    lock_if_free,
    read_json,
    read_table,
    remove_partial,
    write_json,
    write_table,
    written_aside,
)

SECONDS_BETWEEN_CHECKPOINTS = {"cpu": 0, "mps": 0, "cuda": 20}  # what a kill costs there at most


def train_to_the_end(folder, settings, device, begin, report=None):
    """Train one model, or go on with it, or find it finished; return its history, a data frame.

    `begin`, called with folder and device, returns the `Training`, at its checkpoint if there is
    one; `report`, if given, is called with each row of the history.
    """
    device = choose_device(device)
    with reproducible(device):
        for _ in turns_of_training(folder, settings, device, begin, report):
            pass  # nobody else wants a turn
    return read_history(folder)


def turns_of_training(folder, settings, device, begin, report=None):
    """Train one model, an evaluation a turn: yields when that of one is under way.

    On a GPU that is before it is done, so that others can hand theirs in meanwhile. A turn is also
    a look whether another still holds the folder. The block around all turns is `reproducible`.
    """
    folder = Path(folder)
    while (lock := lock_if_free(folder)) is None:
        yield
    with ExitStack() as stack:
        stack.callback(lock.release)
        check_settings(folder, settings)
        if is_finished(folder):
            return
        remove_partial(folder)
        write_json(folder / "config.json", asdict(settings))
        training = begin(folder, device)
        while not training.finished:
            training.start()
            yield
            row = training.advance()
            if report:
                report(row)
        history = pd.DataFrame(training.numbers["history"])
        write_table(folder / "history.csv", history, sealed=True)
        _write_tensors(folder / "weights.safetensors", training.best_weights)
        remove_checkpoint(folder)


class Training:
    """One training under way: model, optimiser, best weights, and `numbers`, which are the rest.

    Each kind says how it trains as far as its next evaluation (`train_and_evaluate`), what it makes
    of that row of its history (`judge`: best weights, learning rate) and when it is `finished`.
    What a GPU can do while others have their turn is handed in by `start`.

    A training can take over the memory of one `before` it, of the same kind, which has ended.
    """

    def __init__(self, folder, settings, device, model, before=None):
        self.folder, self.settings, self.device = folder, settings, torch.device(device)
        if before is None:
            self.model = model.to(device, memory_format=memory_layout(model.n_dims))
            self.optimiser = adam(self.model, self.device)
        else:
            self.model, self.optimiser = before.model, before.optimiser
        self.best_weights, self.saved = {}, time.monotonic()

    def begin(self, weights, first_rate, **numbers):
        """Go to the checkpoint, if there is one, or to the first step from `weights`."""
        self.numbers = {"history": [], "n_flat": 0, "learning_rate": first_rate, **numbers}
        self.model.load_state_dict(weights)
        for state in self.optimiser.state.values():
            for tensor in state.values():
                tensor.zero_()
        if (self.folder / "checkpoint.safetensors").exists():
            self.best_weights, stored = load_checkpoint(self.folder, self.model, self.optimiser)
            check_numbers(self.folder / "checkpoint.safetensors", stored, self.numbers)
            self.numbers = stored
        self.rate = self.numbers["learning_rate"]

    @property
    def rate(self):
        """The learning rate now."""
        return self.numbers["learning_rate"]

    @rate.setter
    def rate(self, rate):
        self.numbers["learning_rate"] = rate
        group = self.optimiser.param_groups[0]
        if isinstance(group["lr"], torch.Tensor):
            group["lr"].fill_(rate)
        else:
            group["lr"] = rate

    def start(self):
        """Hand in work of the next evaluation, if that pays; `advance` does what is left."""

    def advance(self):
        """Train as far as the next evaluation, judge it and save; return the history's row."""
        row = self.train_and_evaluate()
        self.numbers["history"].append(row)
        self.judge(row)
        if time.monotonic() - self.saved >= SECONDS_BETWEEN_CHECKPOINTS[self.device.type]:
            save_checkpoint(
                self.folder, self.model, self.optimiser, self.best_weights, self.numbers
            )
            self.saved = time.monotonic()
        return row

    def step(self, images, labels, **class_weights):
        """One step of the optimiser on a mini-batch; return the loss."""
        self.model.train()
        loss = self.loss_of(self.placed(images), labels.to(self.device), class_weights)
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        self.optimiser.step()
        return loss.detach()

    def loss_of(self, images, labels, class_weights):
        """The loss on a mini-batch, in float32 also where the network computes in bfloat16."""
        half = self.settings.precision == "bfloat16"
        with torch.autocast(self.device.type, torch.bfloat16, enabled=half):
            logits = self.model(images)
        return training_loss(
            logits.float(),  # a sigmoid of bfloat16 keeps two or three digits
            labels,
            self.settings.loss,
            epsilon=self.settings.dice_epsilon,
            check_values=False,  # of labels before, of logits by the mean loss of many steps
            **class_weights,
        )

    def placed(self, images):
        """Return a mini-batch where the model is, in the layout that it is in."""
        return images.to(self.device).contiguous(memory_format=memory_layout(self.model.n_dims))

    def check_finite(self, name, losses):
        """Raise where a loss is infinite or NaN."""
        if not np.isfinite(losses).all():
            expected = "a finite number; try a lower learning_rate"
            raise wrong_input(f"{name} in {self.folder}", losses, expected)


def save_checkpoint(folder, model, optimiser, best_weights, numbers):
    """Write ``checkpoint.safetensors``, and ``state.json`` that tells people the same."""
    tensors = {f"model.{name}": tensor for name, tensor in model.state_dict().items()}
    tensors |= {f"best.{name}": tensor for name, tensor in best_weights.items()}
    for index, state in optimiser.state_dict()["state"].items():
        tensors |= {f"adam.{index}.{name}": tensor for name, tensor in state.items()}
    tensors = {name: tensor.contiguous() for name, tensor in tensors.items()}
    metadata = {"numbers": json.dumps(numbers)}  # float64 exactly
    _write_tensors(folder / "checkpoint.safetensors", tensors, metadata)
    write_json(folder / "state.json", numbers)


def _write_tensors(path, tensors, metadata=None):
    """Write a safetensors file, whole or not at all; `save_file` would hide it from all others."""
    with written_aside(path) as partial:
        partial.write_bytes(save(tensors, metadata))


def remove_checkpoint(folder):
    """Remove what a finished training needs no more, if it is there and may be removed."""
    for path in (folder / "checkpoint.safetensors", folder / "state.json"):
        if path.exists() and os.access(folder, os.W_OK):
            path.unlink(missing_ok=True)


def load_checkpoint(folder, model, optimiser):
    """Put a checkpoint back into `model` and `optimiser`; return best weights and numbers."""
    groups, path = {"model": {}, "best": {}, "adam": {}}, folder / "checkpoint.safetensors"
    weights, expected = optimiser.param_groups[0]["params"], model.state_dict()
    with _named_if_damaged(path, path):
        with safe_open(path, framework="pt") as file:
            numbers = json.loads(file.metadata()["numbers"])
            for key in file.keys():  # noqa: SIM118 - a safetensors file is no dict
                group, name = key.split(".", 1)
                groups[group][name] = file.get_tensor(key)
        check_fit(groups["model"], expected)
        check_fit(groups["best"], expected if numbers["history"] else {})
        adams = {f"{k}.step": torch.zeros(()) for k in range(len(weights))}
        for name in ("exp_avg", "exp_avg_sq"):
            adams |= {f"{k}.{name}": weight for k, weight in enumerate(weights)}
        check_fit(groups["adam"], adams)
    model.load_state_dict(groups["model"])
    for key, tensor in groups["adam"].items():
        index, name = key.split(".")
        weight = weights[int(index)]
        # As the optimiser makes it: another layout may round the last bit otherwise.
        empty = (
            torch.zeros_like(weight)
            if tensor.ndim
            else torch.zeros_like(tensor, device=weight.device)
        )
        optimiser.state[weight].setdefault(name, empty).copy_(tensor)
    return {name: tensor.to(weights[0].device) for name, tensor in groups["best"].items()}, numbers


def copy_weights(model):
    """Return all weights of a model as they are now, where they are."""
    return {
        name: tensor.detach().clone(memory_format=torch.contiguous_format)
        for name, tensor in model.state_dict().items()
    }


def adam(model, device):
    """Return Adam on a model's weights; on CUDA its rate is a tensor that recorded steps read."""
    options = {"fused": True}
    if device.type == "cuda":
        options |= {"lr": torch.zeros((), device=device), "capturable": True}
    return torch.optim.Adam(model.parameters(), **options)


def check_settings(folder, settings):
    """Refuse a folder that holds a model of other settings, naming the fields that differ."""
    if (folder / "config.json").exists():
        check_same_settings(folder / "config.json", asdict(settings), settings.later_fields)
    elif is_finished(folder):
        found = "weights without config.json"
        raise wrong_input(folder, found, "both; remove the folder to train the model again")


def check_numbers(path, stored, expected):
    """Refuse a checkpoint whose numbers have other names or types than those of a new training."""
    types = [{name: type(value) for name, value in both.items()} for both in (stored, expected)]
    if types[0] != types[1]:
        wanted = f"{', '.join(expected)}; remove {path} to train again"
        raise wrong_input(path, f"numbers {', '.join(stored)} or other types", wanted)


def check_fit(tensors, expected):
    """Raise unless tensors by name have the names, shapes and types of those expected."""
    if tensors.keys() != expected.keys():
        raise ValueError(f"{min(tensors.keys() ^ expected.keys())} is in one network only")
    for name, tensor in tensors.items():
        found, wanted = ((t.dtype, tuple(t.shape)) for t in (tensor, expected[name]))
        if found != wanted:
            raise ValueError(f"{name} is {found}, in the network {wanted}")


def is_finished(folder):
    """Return whether a folder holds a finished model: its weights are written last."""
    return (Path(folder) / "weights.safetensors").exists()


def check_finished(folder):
    """Return the folder of a finished model as a path, or say that it is none."""
    if not is_finished(folder):
        raise wrong_input(folder, "no weights.safetensors", "the folder of a finished model")
    return Path(folder)


def read_history(folder):
    """Return the history of a finished model: a row for each of its evaluations."""
    return read_table(Path(folder) / "history.csv", sealed=True, remove=folder)


def history_so_far(folder):
    """Return the rows of a finished model's history, or of one that is training; else none."""
    if is_finished(folder):
        return read_history(folder).to_dict("records")
    with suppress(FileNotFoundError):  # none yet, or the training ended a moment ago
        return read_json(Path(folder) / "state.json", shape={"history": list})["history"]
    return []


def load_weights(folder, model):
    """Give a network the weights of a finished model; damaged ones, or of another, are named."""
    path = check_finished(folder) / "weights.safetensors"
    with _named_if_damaged(path, folder):
        weights = load_file(path)
        check_fit(weights, model.state_dict())
    model.load_state_dict(weights)


@contextmanager
def _named_if_damaged(path, remove):
    """Name a file of tensors that is damaged, and what to remove to have it made again."""
    try:
        yield
    except (SafetensorError, LookupError, TypeError, ValueError) as error:
        expected = f"a whole file; remove {remove} to train again"
        raise wrong_input(path, f"a damaged file ({error})", expected) from error
