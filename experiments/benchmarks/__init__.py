"""Measurements of speed, each as ratios from one run: `python -m experiments.benchmarks.NAME`."""
