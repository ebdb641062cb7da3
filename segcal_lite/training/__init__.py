"""Models, the plans they are trained by, and the loops over slices and blocks."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "checkpoints": ["read_history"],
        "members": ["train_members"],
        "models": ["build_model", "load_model"],
        "on_slices": ["train_model"],
        "random_blocks": ["block_transform", "draw_block"],
        "slices": ["Slices", "load_slices"],
    },
)
