"""Training: a pure step, its optimiser, where it runs, and what it leaves on disk."""
