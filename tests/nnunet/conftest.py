"""What is read by nnU-Net alone is no test."""

collect_ignore = ["trainers"]
