"""Train one model as paper A does, so that an interrupted run ends where a whole one would.

Adam on mini-batches of slices, a plateau schedule on the validation Dice, early stopping, and the
checkpoint of the best validation Dice. The random numbers of an epoch depend on the seed and the
epoch alone, so that a checkpoint after each epoch holds everything.
"""

import numpy as np
import torch

from .._checks import IGNORED, check_label_range
from ..data.prepared import load_slices, read_prepared
from ..losses import class_logits, inverse_frequency_weights
from ..runs.devices import memory_layout
from .checkpoints import Training, copy_weights, train_to_the_end
from .models import build_model


def train_model(folder, prepared_folder, settings, device="auto", report=None):
    """Train one model, or go on with it, or find it finished.

    Parameters
    ----------
    folder : path
        Receives ``config.json``, ``history.csv`` and, last, ``weights.safetensors``; while
        training also ``checkpoint.safetensors`` and ``state.json``.
    prepared_folder : path
        Written by `segcal_lite.data.prepared.prepare_dataset`.
    settings : TrainingSettings
    device : str
        On the CPU the same settings give the same bits, interrupted or not.
    report : callable, optional
        Called with the history's row after each evaluation, which here is an epoch.

    Returns
    -------
    pandas.DataFrame
        Columns epoch, learning_rate, train_loss, validation_dice.

    Raises
    ------
    ValueError
        If the folder holds a model of other settings, or the loss becomes infinite or NaN.
    """

    def begin(folder, device):
        return SliceTraining(folder, read_prepared(prepared_folder), settings, device)

    return train_to_the_end(folder, settings, device, begin, report)


class SliceTraining(Training):
    """A training whose evaluations are the epochs, and whose measure is the validation Dice."""

    def __init__(self, folder, cases, settings, device):
        model, rate = build_model(settings), settings.learning_rate
        worst = {"best_dice": -1.0, "plateau_dice": -1.0}
        super().__init__(folder, settings, device, model, rate, **worst)
        self.training_slices = load_slices(cases, "train", device, model.n_dims)
        self.validation_slices = load_slices(cases, "validation", device, model.n_dims)
        for slices in (self.training_slices, self.validation_slices):
            check_label_range(slices.labels, settings.n_classes, lowest=IGNORED)
        self.class_weights = self._class_weights(device)

    def _class_weights(self, device):
        """Weights of Eq. 1 over all pixels of training and validation, and of Eq. 2."""
        ce_weights = None
        if self.settings.loss != "dice":
            both = (self.training_slices.labels, self.validation_slices.labels)
            if self.settings.regions:  # the two classes of each
                problems = zip(*(labels.unbind(1) for labels in both), strict=True)
                ce_weights = torch.stack([self._weights_of(*pair) for pair in problems]).to(device)
            else:
                ce_weights = self._weights_of(*both).to(device)
        return {
            "ce_weights": ce_weights,
            "dice_weights": torch.tensor(self.settings.dice_weights, device=device),
        }

    def _weights_of(self, *labels):
        """Inverse frequencies of the classes in the annotated pixels of several label tensors."""
        n_classes = self.settings.n_classes
        counts = [torch.bincount(part[part != IGNORED], minlength=n_classes) for part in labels]
        return inverse_frequency_weights(sum(counts).tolist())

    @property
    def finished(self):
        """Whether the epochs are used up, or validation Dice has long not gained."""
        dice = [row["validation_dice"] for row in self.numbers["history"]]
        n_waited = len(dice) - 1 - int(np.argmax(dice)) if dice else 0
        return (
            len(dice) >= self.settings.n_epochs or n_waited >= self.settings.early_stopping_patience
        )

    def train_and_evaluate(self):
        """Train on every slice once and validate; return the history's row."""
        settings, number = self.settings, len(self.numbers["history"])
        epoch_seed = np.random.SeedSequence((settings.seed, number)).generate_state(1)[0]
        torch.manual_seed(int(epoch_seed))
        return {
            "epoch": number,
            "learning_rate": self.rate,
            "train_loss": self._train_on_all_slices(),
            "validation_dice": validation_dice(self.model, self.validation_slices, settings),
        }

    def _train_on_all_slices(self):
        """One pass over the shuffled slices; return the mean loss of a slice."""
        slices, total = self.training_slices, torch.zeros((), device=self.device)
        order = torch.randperm(len(slices.labels)).to(self.device)
        for indices in order.split(self.settings.batch_size):
            images, labels = slices.images[indices], slices.labels[indices].long()
            if self.settings.augment:
                images, labels = augment_slices(images, labels)
            total += self.step(images, labels, **self.class_weights) * len(indices)
        mean_loss = float(total) / len(slices.labels)
        self.check_finite("training loss", mean_loss)
        return mean_loss

    def judge(self, row):
        """Keep the best weights; lower the rate when Dice does not gain `plateau_gain` for long."""
        dice, numbers = row["validation_dice"], self.numbers
        if dice > numbers["best_dice"]:
            numbers["best_dice"] = dice
            self.best_weights = copy_weights(self.model)
        if dice > numbers["plateau_dice"] + self.settings.plateau_gain:
            numbers["plateau_dice"], numbers["n_flat"] = dice, 0
        else:
            numbers["n_flat"] += 1
            if numbers["n_flat"] >= self.settings.plateau_patience:
                numbers["n_flat"] = 0
                self.rate *= self.settings.plateau_factor


@torch.no_grad()
def validation_dice(model, slices, settings):
    """Mean over volumes and segments of the Dice coefficient of arg-max labels, in [0, 1].

    A segment that is absent from truth and prediction counts as 1. Pixels that nobody annotated
    count in neither.
    """
    model.eval()
    layout, n_regions = memory_layout(len(settings.crop_size)), len(settings.regions)
    n_segments = n_regions or settings.n_classes - 1
    counts = torch.zeros(3, int(slices.case_index.max()) + 1, n_segments, dtype=torch.float64)
    for indices in torch.arange(len(slices.labels)).split(settings.batch_size):
        images = slices.images[indices].contiguous(memory_format=layout)
        logits = class_logits(model(images), settings.loss, settings.n_classes, n_regions)
        predicted, truth = logits.argmax(dim=1).cpu(), slices.labels[indices].cpu()
        predicted[truth == IGNORED] = 0
        for k in range(1, n_segments + 1):
            masks = predicted == k, truth == k
            if n_regions:
                masks = predicted[:, k - 1] == 1, truth[:, k - 1] == 1
            both = torch.stack([masks[0] & masks[1], *masks])
            pixels = both.flatten(start_dim=2).sum(dim=2).double()
            counts[:, :, k - 1].index_add_(1, slices.case_index[indices], pixels)
    overlap, n_predicted, n_truth = counts
    total = n_predicted + n_truth
    return float(torch.where(total > 0, 2 * overlap / total.clamp(min=1), 1.0).mean())


def augment_slices(images, labels, noise=0.02):
    """Flip, turn and add Gaussian noise to images (B, C, X, Y), and labels (B, X, Y), all alike.

    Turned by 180 degrees only where X and Y differ. B prints no standard deviation of the `noise`.

    Examples
    --------
    >>> images, labels = augment_slices(torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8))
    >>> images.shape, labels.shape
    (torch.Size([2, 1, 8, 8]), torch.Size([2, 8, 8]))
    """
    flips = [axis for axis in (-2, -1) if torch.rand(()) < 0.5]
    step = 1 if images.shape[-1] == images.shape[-2] else 2
    n_quarters = step * int(torch.randint(0, 4 // step, ()))
    images, labels = (
        torch.rot90(tensor.flip(flips), n_quarters, dims=(-2, -1)) for tensor in (images, labels)
    )
    return images + noise * torch.randn_like(images), labels
