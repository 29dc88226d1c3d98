import sys
import time

import numpy as np
import pytest
from conftest import Lazy

from experiments.benchmarks import others

torch = Lazy("torch")
others_torch = Lazy("experiments.benchmarks.others_torch")


def growing():
    """dx/dt = x, of one parameter."""

    class Growing(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.rate = torch.nn.Parameter(torch.ones(()))

        def forward(self, x, t, y):
            return self.rate * x

    return Growing()


def test_one_step_of_heun(monkeypatch):
    """x grows by 1 + 1 + 1/2 in one step of Heun, and the border of the padded image is cut off."""
    noise = 0.3 * torch.linspace(-1, 1, 2 * 32 * 32).reshape(2, 1, 32, 32)
    monkeypatch.setattr("torch.randn", lambda *shape: noise)
    images = others_torch.Torch(growing, 32, 250, 0.1, 0).sample(np.array([3, 4]), 1.0, 1)
    expected = np.round((2.5 * noise.numpy()[:, 0, 2:30, 2:30, None] + 1) * 127.5)
    assert images.shape == (2, 28, 28, 1)
    assert np.abs(images - expected).max() <= 1  # a half may be rounded either way


def test_the_lab_has_batch_norm_and_as_many_parameters_as_ours():
    lab = others_torch.RECIPES["lab"](0)
    norms = [type(part).__name__ for part in lab._network.modules() if "Norm" in type(part).__name__]
    assert norms == ["BatchNorm2d"] * 21
    assert lab.size == 1_233_325


def test_training_lasts_so_long_of_the_processor():
    """What sleeps is not counted, nor the first step."""
    steps = iter(range(10**9))

    def step():
        time.sleep(0.001)
        return float(next(steps))

    begin = time.process_time()
    losses = others.train(step, 0.002)
    assert losses == list(map(float, range(1, 1 + len(losses))))
    assert time.process_time() - begin >= 0.002 * others.cores()


def test_what_is_missing_or_impossible_is_said_first(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "hackable_diffusion", None)
    with pytest.raises(SystemExit):
        others.main(["hackable"])
    assert "hackable needs hackable_diffusion: Python 3.12 or later, pip install" in capsys.readouterr().err
    monkeypatch.setitem(
        others_torch.RECIPES, "torchcfm", lambda seed: others_torch.Torch(growing, 28, 128, 0.0, seed)
    )
    with pytest.raises(SystemExit):
        others.main(["torchcfm", "--w", "1", "2"])
    assert "w = (1.0, 2.0): torchcfm has no null class; only w = 1" in capsys.readouterr().err
