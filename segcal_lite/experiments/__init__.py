"""What a notebook opens: one dataset with its members, or many sets with their plans."""
