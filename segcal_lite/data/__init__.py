"""From files on disk to prepared cases: tasks, volumes, layouts, splits, grids, sets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cases": ["load_case"],
        "datasets": ["read_dataset"],
        "labels": ["annotated", "segment_masks", "segment_probs"],
        "predictions": ["open_predictions", "read_prediction"],
        "prepared": ["prepare_dataset", "read_prepared"],
        "sets": ["prepare_set", "read_sets"],
        "tasks": ["EIGHT_SETS", "ORGAN_SETS", "TASKS", "THREE_AGES"],
        "volumes": ["Volume", "read_label", "read_volume", "write_volume"],
    },
)
