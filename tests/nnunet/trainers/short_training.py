"""A trainer of nnU-Net, which finds it through the environment variable ``nnUNet_extTrainer``."""

import numpy as np
import torch
from nnunetv2.training.nnUNetTrainer.variants.optimizer.nnUNetTrainerAdam import (
    nnUNetTrainerVanillaAdam1en3,
)


class ShortTraining(nnUNetTrainerVanillaAdam1en3):
    """nnU-Net's own training, minutes of it, on one core, the same every time."""

    def __init__(self, plans, configuration, fold, dataset_json, device=torch.device("cuda")):  # noqa: B008
        super().__init__(plans, configuration, fold, dataset_json, device)
        self.num_epochs = 5
        self.num_iterations_per_epoch = 40
        self.num_val_iterations_per_epoch = 2
        torch.set_num_threads(1)
        torch.manual_seed(fold)
        np.random.seed(fold)  # noqa: NPY002  nnU-Net draws patches and transforms from it
