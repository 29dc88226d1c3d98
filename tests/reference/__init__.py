"""The library against other packages, wherever both define the same thing.

Each test runs the other's own code on the same random inputs in float64 and compares the results. Where
definitions differ, the docstring of our function says so. The peers, installed by the extra `reference`:

    diffusers 0.42        schedulers, guiders, distributions of training times
    flow_matching 1.0     paths, conversions, change of path, ODE solvers (torchdiffeq), likelihood
    prdc 0.2              precision, recall, density, coverage
    torchmetrics 1.9      Frechet and kernel distances, Inception score

Omitted: torchcfm and torch-fidelity, whose torchvision does not import with torch 2.13 (what they share with
us is compared through flow_matching and torchmetrics); k-diffusion, for its many dependencies (its Euler,
ancestral and DPM++ 2M samplers are those of diffusers); hackable_diffusion, which needs Python 3.12.

Except for the ancestral sampler, none has our SDE samplers, `adams_bashforth2`, `several` or `rectified`,
which are tested against closed forms only.
"""
