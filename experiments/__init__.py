"""Scripts: train, sample, evaluate. One Python function per experiment in `presets`."""
