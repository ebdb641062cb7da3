"""The claims of both papers, and whether they hold on the data of some runs."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "ledger": ["ALL", "ledger_of", "read_evidence"],
        "pencil": ["check_table", "repeated_rows"],
        "rules": ["VERDICTS"],
        "statements": ["CLAIMS"],
    },
)
