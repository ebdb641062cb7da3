"""Train one model as paper A does, so that an interrupted run ends where a whole one would.

Adam on mini-batches of slices, a plateau schedule on the validation Dice, early stopping, and the
checkpoint of the best validation Dice. The random numbers of an epoch depend on the seed and the
epoch alone, so that a checkpoint after each epoch holds everything.
"""

import numpy as np
import torch

from .._checks import IGNORED, check_label_range, wrong_input
from ..data.prepared import read_prepared
from ..losses import class_logits, inverse_frequency_weights
from ..runs.devices import memory_layout
from .checkpoints import copy_weights
from .loop import Training, train_to_the_end
from .models import build_model
from .recorded import RecordedEpoch, can_be_recorded, compiled_for
from .slices import load_slices


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
        Columns epoch, learning_rate, train_loss, validation_dice, and validation_dice_present: of
        segments that the truth holds, so that silence about others is no merit.

    Raises
    ------
    ValueError
        If the folder holds a model of other settings, or the loss becomes infinite or NaN.
    """

    def begin(folder, device):
        return SliceTraining(folder, read_prepared(prepared_folder), settings, device)

    return train_to_the_end(folder, settings, device, begin, report)


class SliceTraining(Training):
    """A training whose evaluations are the epochs, and whose measure is the validation Dice.

    On CUDA an epoch is recorded once and replayed: see `segcal_lite.training.recorded`.
    """

    under_way = None  # what waits for the epoch that was started, and returns its outcome

    def __init__(self, folder, cases, settings, device, before=None, compiled=False):
        model = build_model(settings)
        weights = copy_weights(model)
        super().__init__(folder, settings, device, model, before)
        device = self.device
        if before is None:
            self.training_slices = load_slices(cases, "train", device, model.n_dims)
            self.validation_slices = load_slices(cases, "validation", device, model.n_dims)
            for slices in (self.training_slices, self.validation_slices):
                check_label_range(slices.labels, settings.n_classes, lowest=IGNORED)
            if not (self.validation_slices.labels > 0).any():  # silence would be best
                raise wrong_input("validation cases", "no foreground", "some in one at least")
            self._check_batches()
            self.class_weights, self.recorded = self._class_weights(device), None
            if can_be_recorded(settings, device):
                if compiled:  # into the recording, which whoever takes over replays
                    self.loss_of = compiled_for(settings.batch_size, self.loss_of)
                self.recorded = RecordedEpoch(self._epoch, len(self.training_slices.labels), device)
        else:
            for name in ("training_slices", "validation_slices", "class_weights", "recorded"):
                setattr(self, name, getattr(before, name))
        self.begin(weights, settings.learning_rate, best_dice=-1.0, plateau_dice=-1.0)

    def _check_batches(self):
        """Raise where no mini-batch has the variance that batch normalisation divides by."""
        settings = self.settings
        n_together = min(settings.batch_size, len(self.training_slices.labels))
        if n_together < settings.least_in_batch:
            found = f"a mini-batch of {n_together} at crop_size {settings.crop_size}"
            expected = "two samples or more, or a larger crop_size: the inmost map is one voxel"
            raise wrong_input("batch_size and training cases", found, expected)

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

    def start(self):
        """Hand in the next epoch: on a GPU this returns before it is done."""
        number = len(self.numbers["history"])
        epoch_seed = np.random.SeedSequence((self.settings.seed, number)).generate_state(1)[0]
        torch.manual_seed(int(epoch_seed))
        epoch = self.recorded or self._epoch
        self.under_way = epoch(torch.randperm(len(self.training_slices.labels)))

    def train_and_evaluate(self):
        """Train on every slice once and validate; return the history's row."""
        if self.under_way is None:
            self.start()
        total_loss, counts = self.under_way()
        self.under_way = None
        mean_loss = float(total_loss) / len(self.training_slices.labels)
        self.check_finite("training loss", mean_loss)
        return {
            "epoch": len(self.numbers["history"]),
            "learning_rate": self.rate,
            "train_loss": mean_loss,
            "validation_dice": mean_dice(counts),
            "validation_dice_present": mean_dice(counts, of_present=True),
        }

    def _epoch(self, order):
        """One pass over the slices in an order and the validation; return what waits for them."""
        slices = self.training_slices
        order, total = order.to(self.device), torch.zeros((), device=self.device)
        for indices in mini_batches(order, self.settings.batch_size, self.settings.least_in_batch):
            images, labels = slices.images[indices], slices.labels[indices].long()
            if self.settings.augment:
                images, labels = augment_slices(images, labels)
            total += self.step(images, labels, **self.class_weights) * len(indices)
        counts = validation_counts(self.model, self.validation_slices, self.settings)
        return lambda: (total, counts)

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


def mini_batches(order, batch_size, least=1):
    """Split an order of samples; a last mini-batch of fewer than `least` joins the one before it.

    Examples
    --------
    >>> [len(part) for part in mini_batches(torch.arange(5), batch_size=2, least=2)]
    [2, 3]
    """
    parts = order.split(batch_size)
    if len(parts[-1]) < least and len(parts) > 1:
        parts = (*parts[:-2], torch.cat(parts[-2:]))
    return parts


def validation_dice(model, slices, settings):
    """Mean over volumes and segments of the Dice coefficient of arg-max labels, in [0, 1].

    A segment that is absent from truth and prediction counts as 1. Pixels that nobody annotated
    count in neither.
    """
    return mean_dice(validation_counts(model, slices, settings))


@torch.no_grad()
def validation_counts(model, slices, settings):
    """Count the pixels in both masks, in the predicted and in the true one.

    Returns a tensor of integers, shape (3, n_cases, n_segments), on the device of the slices,
    without waiting for it.
    """
    model.eval()
    layout, n_regions = memory_layout(len(settings.crop_size)), len(settings.regions)
    n_segments = n_regions or settings.n_classes - 1
    device, n_cases = slices.labels.device, slices.n_cases
    counts = torch.zeros(3, n_cases, n_segments, dtype=torch.int64, device=device)
    batches = (
        part.split(settings.batch_size)
        for part in (slices.images, slices.labels, slices.case_index)
    )
    for images, labels, case_index in zip(*batches, strict=True):
        images = images.contiguous(memory_format=layout)
        logits = class_logits(model(images), settings.loss, settings.n_classes, n_regions)
        predicted = logits.argmax(dim=1).masked_fill(labels == IGNORED, 0)
        for k in range(1, n_segments + 1):
            masks = predicted == k, labels == k
            if n_regions:
                masks = predicted[:, k - 1] == 1, labels[:, k - 1] == 1
            both = torch.stack([masks[0] & masks[1], *masks])
            counts[:, :, k - 1].index_add_(1, case_index, both.flatten(start_dim=2).sum(dim=2))
    return counts


def mean_dice(counts, of_present=False):
    """Dice of `validation_counts`, averaged over volumes and segments; empty in both: 1.

    With `of_present` over those that the truth holds; NaN if there are none.
    """
    overlap, n_predicted, n_truth = counts.cpu().double()
    total = n_predicted + n_truth
    dice = torch.where(total > 0, 2 * overlap / total.clamp(min=1), 1.0)
    return float(dice[n_truth > 0].mean() if of_present else dice.mean())


def augment_slices(images, labels, noise=0.02):
    """Flip, turn and add Gaussian noise to images (B, C, X, Y), and labels (B, X, Y), all alike.

    Volumes are flipped and turned in plane. Turned by 180 degrees only where X and Y differ. B
    prints no standard deviation of the `noise`.

    Examples
    --------
    >>> images, labels = augment_slices(torch.rand(2, 1, 8, 8), torch.zeros(2, 8, 8))
    >>> images.shape, labels.shape
    (torch.Size([2, 1, 8, 8]), torch.Size([2, 8, 8]))
    """
    in_plane = 2 - images.ndim, 3 - images.ndim  # X and Y, counted from the end
    flips = [axis for axis in in_plane if torch.rand(()) < 0.5]
    step = 1 if images.shape[2] == images.shape[3] else 2
    n_quarters = step * int(torch.randint(0, 4 // step, ()))
    images, labels = (
        torch.rot90(tensor.flip(flips), n_quarters, dims=in_plane) for tensor in (images, labels)
    )
    return images + noise * torch.randn_like(images), labels
