"""Confidence calibration and out-of-distribution detection for medical image segmentation."""

import os

__version__ = "0.1.0"

# Threads that wait actively make small networks three times slower beside any other program.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # read when PyTorch is loaded, which is later
