"""From files on disk to prepared cases: tasks, volumes, layouts, splits, grids, sets."""
