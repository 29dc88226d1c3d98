"""The chapter's and the labs' pictures from exact mixtures: `python -m experiments.figures NAME`."""
