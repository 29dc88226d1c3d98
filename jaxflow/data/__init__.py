"""Data sets opened by name, of tensorflow-datasets or a folder of pictures, read in batches through Grain.

Knows nothing of flows. Batch n is a pure function of (seed, n).
"""
