"""Scripts: train, sample, evaluate. One Python function per experiment in `presets`."""

from experiments import host_memory

host_memory.keep()
