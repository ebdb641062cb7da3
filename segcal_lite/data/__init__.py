"""From files on disk to prepared cases: tasks, volumes, layouts, splits, grids, sets."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "cases": ["Case", "Dataset", "load_case"],
        "datasets": ["read_dataset"],
        "grids": ["settle_grid"],
        "labels": ["annotated", "segment_masks", "segment_probs"],
        "prepared": ["PreparedCase", "prepare_dataset", "read_prepared"],
        "preprocessing": [
            "Preprocessing",
            "plan_preprocessing",
            "prepare_image",
            "prepare_label",
            "prepare_probs",
            "prepared_affine",
            "resample_label",
            "restore_labels",
            "restore_probs",
            "valid_box",
        ],
        "sets": ["prepare_set", "read_sets"],
        "tasks": ["EIGHT_SETS", "ORGAN_SETS", "TASKS", "THREE_AGES", "Task"],
        "volumes": [
            "Volume",
            "foreground_box",
            "read_label",
            "read_volume",
            "resolve_affine",
            "write_volume",
        ],
    },
)
