"""Scripts: train, sample, evaluate, sweep, demo, export. One Python function per experiment in `presets`."""

import os
from importlib.util import find_spec

if missing := [name for name in ("tyro", "matplotlib", "sklearn") if find_spec(name) is None]:
    raise SystemExit(f"error: the scripts need {', '.join(missing)}: pip install 'jaxflow[scripts]'")

# Figures go to files. Jupyter names a backend of its own, which need not be installed here.
os.environ["MPLBACKEND"] = "agg"
