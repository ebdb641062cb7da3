"""Run folders, processes, schedules and devices: the machinery below everything."""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach(
    __name__,
    submod_attrs={
        "devices": ["choose_device", "reproducible"],
        "folders": ["project_root", "read_json", "resolve_path", "write_figure"],
        "processes": ["count_workers"],
        "schedules": ["run_in_order"],
        "tables": ["read_table", "write_table"],
    },
)
