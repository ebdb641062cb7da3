"""Confidence calibration and out-of-distribution detection for medical image segmentation."""

__version__ = "0.1.0"
