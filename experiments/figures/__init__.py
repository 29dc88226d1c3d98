"""The chapter's and the labs' figures from exact mixtures: `python -m experiments.figures NAME`."""
