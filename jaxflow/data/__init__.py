"""Data: one way in for every data set, tensorflow-datasets in ArrayRecord form read through Grain.

Knows nothing of flows. Batch n is a pure function of (seed, n).
"""
