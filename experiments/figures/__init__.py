"""The chapter's and the labs' pictures, drawn from exact Gaussian mixtures: `python -m experiments.figures NAME`."""
