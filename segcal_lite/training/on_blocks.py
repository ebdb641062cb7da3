"""Train one 3D model on random blocks as paper B does (sections III.B and III.C).

Negative Dice, Adam, a lower rate after an evaluation without a smaller loss, an end after several
of these in a row. B does not say which loss is evaluated; here it is the mean over sets of the Dice
loss on fixed validation blocks, and the weights of the smallest are kept. What is drawn depends on
seed and iteration alone, and a checkpoint follows each evaluation: an interrupted training ends
where a whole one would.
"""

import numpy as np
import torch

from .._checks import IGNORED, check_label_range, wrong_input
from ..data.prepared import of_split, read_prepared
from ..losses import class_logits, soft_dice_loss
from .checkpoints import copy_weights, history_so_far, load_weights
from .loop import Training, train_to_the_end
from .models import build_model
from .plans import set_probabilities
from .random_blocks import block_transform, draw_block


def train_on_blocks(folder, cases_by_set, settings, start=None, device="auto", report=None):
    """Train one model, or go on with it, or find it finished.

    Nothing tells the network which set a block is from.

    Parameters
    ----------
    folder, device, report
        As in `segcal_lite.training.on_slices.train_model`.
    cases_by_set : dict of list of `segcal_lite.data.prepared.PreparedCase`
        Of the sets of the last stage of the plan; one channel, labels 0 and 1.
    settings : BlockSettings
    start : path, optional
        Folder of the finished model of the stages before; given exactly when the plan has some.

    Returns
    -------
    pandas.DataFrame
        Columns iteration, learning_rate, train_loss, validation_loss, and ``loss_<set>`` for each.

    Raises
    ------
    ValueError
        If the folder holds a model of other settings, a set has no case for training or
        validation or no foreground in its validation blocks, the stages before are not finished,
        or the loss becomes infinite or NaN.
    """
    if (start is not None) != (len(settings.plan) > 1):
        raise wrong_input("start", start, "the folder of the stages before, where there are any")

    def begin(folder, device):
        return BlockTraining(folder, cases_by_set, settings, start, device)

    return train_to_the_end(folder, settings, device, begin, report)


class BlockTraining(Training):
    """A training that is evaluated now and then, by the loss on validation blocks of each set."""

    def __init__(self, folder, cases_by_set, settings, start, device):
        model = build_model(settings)
        if start is not None:
            load_weights(start, model)
        super().__init__(folder, settings, device, model)
        self.begin(copy_weights(model), settings.first_rate, best_loss=np.inf)
        self.images = {name: self._images(cases_by_set, name, "train") for name in settings.sets}
        self.probabilities = set_probabilities([len(i) for i in self.images.values()])
        arguments = settings.block_side, settings.noise, settings.foreground_share
        self.transform = block_transform(*arguments)
        self.validation = self._validation_blocks(cases_by_set)

    def _images(self, cases_by_set, name, split):
        """The cases of a split; their files are open only while a block is cut from them."""
        return of_split(cases_by_set[name], split, f"set {name}")

    def _validation_blocks(self, cases_by_set):
        """Blocks and labels by set, drawn once, neither turned nor with noise."""
        settings, drawn = self.settings, {}
        still = block_transform(
            settings.block_side, foreground_share=settings.foreground_share, augment=False
        )
        for name in settings.sets:
            images = self._images(cases_by_set, name, "validation")
            pairs = []
            for number in range(settings.n_validation_blocks):
                case = images[number % len(images)]
                pairs.append(draw_block(still, case.image, case.labels, seed=number))
            blocks, labels = map(torch.stack, zip(*pairs, strict=True))
            if not (labels == 1).any():  # its loss would never fall, and end the training early
                found = f"no foreground in {len(pairs)} validation blocks"
                raise wrong_input(f"set {name}", found, "some; raise foreground_share")
            drawn[name] = blocks, labels
        return drawn

    @property
    def finished(self):
        """Whether the loss has not fallen for some evaluations (B: two), or all are made."""
        settings, numbers = self.settings, self.numbers
        most = settings.n_evaluations * len(settings.sets)
        return numbers["n_flat"] >= settings.n_flat_to_stop or len(numbers["history"]) >= most

    def train_and_evaluate(self):
        """Train for `evaluate_every` iterations and validate; return the history's row."""
        settings = self.settings
        n_before = len(self.numbers["history"]) * settings.evaluate_every
        n_after = n_before + settings.evaluate_every
        losses = [self._train_once(number) for number in range(n_before, n_after)]
        mean_loss = float(torch.stack(losses).mean())
        self.check_finite("training loss", mean_loss)
        by_set = {f"loss_{name}": self._validation_loss(name) for name in settings.sets}
        self.check_finite("validation loss", list(by_set.values()))
        return {
            "iteration": n_after,
            "learning_rate": self.rate,
            "train_loss": mean_loss,
            "validation_loss": float(np.mean(list(by_set.values()))),
            **by_set,
        }

    def _train_once(self, number):
        """One iteration on blocks that depend on seed and iteration alone; return the loss."""
        settings = self.settings
        rng = np.random.default_rng((settings.seed, number))
        torch.manual_seed(int(rng.integers(2**31)))  # of dropout
        pairs = [self._draw(rng) for _ in range(settings.batch_size)]
        blocks, labels = map(torch.stack, zip(*pairs, strict=True))
        check_label_range(labels, settings.n_classes, lowest=IGNORED)
        return self.step(blocks, labels)

    def _draw(self, rng):
        """Draw a set, one of its images, and a block of that."""
        name = self.settings.sets[rng.choice(len(self.probabilities), p=self.probabilities)]
        images = self.images[name]
        case = images[rng.integers(len(images))]
        seed = int(rng.integers(2**31))
        return draw_block(self.transform, case.image, case.labels, seed=seed)

    @torch.no_grad()
    def _validation_loss(self, name):
        """Dice loss over all validation blocks of a set together; in [-1, 0] for Dice."""
        self.model.eval()
        blocks, labels = self.validation[name]
        probs = []
        for batch in blocks.split(self.settings.batch_size):
            outputs = self.model(self.placed(batch))
            logits = class_logits(outputs, self.settings.loss, self.settings.n_classes)
            probs.append(logits.softmax(dim=1)[:, 1:].cpu())
        options = {"epsilon": self.settings.dice_epsilon, "check_values": False}
        return float(soft_dice_loss(torch.cat(probs), labels, **options))

    def judge(self, row):
        """Keep the best weights; lower the rate where the loss has not become smaller."""
        loss, numbers = row["validation_loss"], self.numbers
        if loss < numbers["best_loss"]:
            numbers["best_loss"], numbers["n_flat"] = loss, 0
            self.best_weights = copy_weights(self.model)
        else:
            numbers["n_flat"] += 1
            self.rate *= self.settings.rate_factor


def progress_of(folder):
    """Return in words how far the training in a folder is, by its last evaluation."""
    history = history_so_far(folder)
    if not history:
        return "no evaluation yet"
    best, now = min(row["validation_loss"] for row in history), history[-1]["iteration"]
    return f"validation loss {best:.3f} at best after {now:.0f} iterations"


def train_block_model(folder, settings, prepared, start, device):
    """Train one model from paths: the unit of work of a process. Returns its history."""
    cases = {name: read_prepared(place) for name, place in prepared.items()}
    return train_on_blocks(folder, cases, settings, start, device)
