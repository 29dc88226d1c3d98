"""Evaluation: how good generated images are, judged beside real ones."""
