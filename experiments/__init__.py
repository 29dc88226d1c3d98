"""Scripts: train, sample, evaluate, sweep, export. One Python function per experiment in `presets`."""
