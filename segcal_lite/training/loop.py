"""Trainings that can be interrupted: what those on slices and on blocks share.

After an evaluation all state is saved, whole or not at all: after each one, or on CUDA, where an
epoch is shorter than the writing, after some seconds.
"""

import time
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from .._checks import wrong_input
from ..losses import training_loss
from ..runs.claims import Claim
from ..runs.devices import choose_device, memory_layout, reproducible
from ..runs.folders import remove_partial, write_json
from ..runs.tables import write_table
from .checkpoints import (
    check_numbers,
    check_settings,
    is_finished,
    load_checkpoint,
    read_history,
    remove_checkpoint,
    save_checkpoint,
    write_tensors,
)

SECONDS_OF_A_LOOK = 0.05
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


def turns_of_training(folder, settings, device, begin, report=None, until=float("inf")):
    """Train one model, an evaluation a turn: yields when that of one is under way.

    On a GPU that is before it is done, so that others can hand theirs in meanwhile. A turn is also
    a look whether another still holds the folder, which ends at the time `until`. The block around
    all turns is `reproducible`.
    """
    folder = Path(folder)
    claim = Claim(folder)
    with ExitStack() as stack:
        stack.callback(claim.release)
        while not claim.acquire(SECONDS_OF_A_LOOK):
            if time.monotonic() >= until:
                return
            yield
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
            claim.check()
            if report:
                report(row)
        history = pd.DataFrame(training.numbers["history"])
        write_table(folder / "history.csv", history, sealed=True)
        write_tensors(folder / "weights.safetensors", training.best_weights)
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


def adam(model, device):
    """Return Adam on a model's weights; on CUDA its rate is a tensor that recorded steps read."""
    options = {"fused": True}
    if device.type == "cuda":
        options |= {"lr": torch.zeros((), device=device), "capturable": True}
    return torch.optim.Adam(model.parameters(), **options)
