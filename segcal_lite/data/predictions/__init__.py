"""Folders of somebody's predictions: nnU-Net's, NIfTI, NumPy, or hard labels alone."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cases": ["CasePrediction", "grid_of_prediction", "read_prediction"],
        "folders": ["PredictionFolder", "open_predictions"],
    },
)
