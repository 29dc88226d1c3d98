"""One module per preset, with one function `experiment()` that returns it."""
