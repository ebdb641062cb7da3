"""Train members one after another by the loop that most people would write.

The peer of `bench_training.py`: PyTorch's defaults in threads, layout and optimiser, the network as
textbooks have it; weights, loss, mini-batches, augmentation and measure are ours, so that only the
way of training differs. Run as
python plain_loop.py PREPARED SETTINGS.json N_EPOCHS N_MEMBERS: it prints the best validation Dice
of each member, as JSON.
"""

import json
import sys

import torch
from textbook_unet import as_textbook

from segcal_lite.data.prepared import read_prepared
from segcal_lite.losses import class_logits, training_loss
from segcal_lite.runs.folders import as_tuples, read_json
from segcal_lite.training.models import TrainingSettings, build_model
from segcal_lite.training.on_slices import augment_slices, mean_dice
from segcal_lite.training.slices import load_slices


def train(settings, training, validation, n_epochs):
    """Return the best validation Dice of one member."""
    model = as_textbook(build_model(settings))
    optimiser = torch.optim.Adam(model.parameters(), lr=settings.learning_rate)
    weights = torch.tensor(settings.dice_weights)
    torch.manual_seed(settings.seed)
    best = 0.0
    for _ in range(n_epochs):
        model.train()
        for indices in torch.randperm(len(training.labels)).split(settings.batch_size):
            images, labels = training.images[indices], training.labels[indices].long()
            if settings.augment:
                images, labels = augment_slices(images, labels)
            loss = training_loss(model(images), labels, settings.loss, dice_weights=weights)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
        best = max(best, validate(model, validation, settings))
    return best


@torch.no_grad()
def validate(model, slices, settings):
    """Return the mean Dice over volumes and segments."""
    model.eval()
    logits = [model(images) for images in slices.images.split(settings.batch_size)]
    predicted = class_logits(torch.cat(logits), settings.loss).argmax(dim=1)
    counts = torch.zeros(3, slices.n_cases, settings.n_classes - 1, dtype=torch.int64)
    for k in range(1, settings.n_classes):
        masks = predicted == k, slices.labels == k
        both = torch.stack([masks[0] & masks[1], *masks]).flatten(start_dim=2).sum(dim=2)
        counts[:, :, k - 1].index_add_(1, slices.case_index, both)
    return mean_dice(counts)


def main(prepared_folder, settings_file, n_epochs, n_members):
    """Train members of the seeds 0, 1, ..."""
    stored = {name: as_tuples(value) for name, value in read_json(settings_file).items()}
    cases = read_prepared(prepared_folder)
    slices = [load_slices(cases, split) for split in ("train", "validation")]
    found = [
        train(TrainingSettings(**stored | {"seed": seed}), *slices, n_epochs)
        for seed in range(n_members)
    ]
    print(json.dumps(found))


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
