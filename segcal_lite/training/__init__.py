"""Models, the plans they are trained by, and the loops over slices and blocks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoints": ["read_history"],
        "members": ["Member", "train_members"],
        "models": ["BlockSettings", "TrainingSettings", "build_model", "load_model"],
        "on_blocks": ["train_on_blocks"],
        "on_slices": ["train_model"],
        "plans": ["chain", "dedicated", "joint", "plan_name", "set_probabilities"],
        "random_blocks": ["block_transform", "draw_block"],
        "slices": ["Slices", "load_slices"],
    },
)
