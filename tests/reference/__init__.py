"""The library beside the programs of others, wherever both define the same thing.

Each test runs the other's own code on the same random inputs, in float64, and holds ours against what it
says. Where definitions differ, the docstring of our function says so. The peers, of the extra `reference`:

    diffusers 0.42        schedulers, guiders, laws of training times
    flow_matching 1.0     paths, conversions, change of path, ODE solvers (torchdiffeq), likelihood
    prdc 0.2              precision and recall
    torchmetrics 1.9      Frechet distance

Left out: torchcfm and torch-fidelity, which bring a torchvision that does not import beside torch 2.13 (what
they define as we do is held through flow_matching and torchmetrics); k-diffusion, for its many dependencies
(its Euler, ancestral and DPM++ 2M samplers are those of diffusers); hackable_diffusion, which PyPI has not.

None of them has our SDE samplers, but for the ancestral one, nor `adams_bashforth2`, `several` and
`rectified`, which are held against closed forms alone.
"""
