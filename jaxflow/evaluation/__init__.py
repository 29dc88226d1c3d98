"""Evaluation: quality metrics of generated images against real ones."""
