"""``python short_training.py DATASET CONFIGURATION FOLD``: nnU-Net's own training, in minutes."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import (
    nnUNetTrainerVanillaAdam1en3,
)


class ShortTraining(nnUNetTrainerVanillaAdam1en3):
    """Few short epochs on one core, the same every time."""

    def __init__(self, plans, configuration, fold, dataset_json, device):
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 5
        self.num_iterations_per_epoch = 60
        self.num_val_iterations_per_epoch = 2
        torch.set_num_threads(1)
        torch.manual_seed(fold)
        np.random.seed(fold)  # noqa: NPY002  nnU-Net draws patches from it


# Whoever predicts finds the trainer by name, to build its network; this one builds it as all do.
ShortTraining.__name__ = "nnUNetTrainer"


def train(dataset, configuration, fold):
    """Train one fold of a planned and preprocessed dataset."""
    folder = Path(os.environ["nnUNet_preprocessed"]) / dataset  # noqa: SIM112
    plans, description = (
        json.loads((folder / f"{name}.json").read_text()) for name in ("nnUNetPlans", "dataset")
    )
    plans["continue_training"] = False
    device = torch.device("cpu")
    ShortTraining(plans, configuration, int(fold), description, device).run_training()


if __name__ == "__main__":
    train(*sys.argv[1:])
