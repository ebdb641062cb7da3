"""Run folders, processes, schedules and devices: the machinery below everything."""
