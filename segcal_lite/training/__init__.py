"""Models, the plans they are trained by, and the loops over slices and blocks."""
