"""What trains is a script, and no test."""

collect_ignore = ["short_training.py"]
