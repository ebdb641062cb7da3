"""Your own model: its predictions scored, corrected, and the cases that a person should look at."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "correction": ["CODE", "Correction", "corrected", "cross_fit", "draw_voxels"],
        "evaluation": ["evaluate"],
        "signatures": ["read_signatures", "write_signatures"],
    },
)
