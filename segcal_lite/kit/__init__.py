"""Commands, pages and published results. Imports nothing: it runs before anything is installed."""
