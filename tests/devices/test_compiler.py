import platform
import sys

import jax
import numpy as np
import pytest
from conftest import assert_below

from jaxflow.devices import compiler

X, Y = np.random.default_rng(0).standard_normal((2, 512, 256), np.float32)
PRODUCTS = {
    "layer": lambda x, y: x @ y.T,
    "gradient of the kernel": lambda x, y: x.T @ y,
    "batches": lambda x, y: x.reshape(8, 64, 256) @ y.reshape(8, 64, 256).mT,
}
compiled = []  # kept to the end of the process


def product(name):
    compiled.append(jax.jit(PRODUCTS[name], compiler_options=compiler.options()).lower(X, Y).compile())
    return compiled[-1]


@pytest.mark.parametrize("name", PRODUCTS)
def test_in_full_precision(name):
    wide = PRODUCTS[name](X.astype(float), Y.astype(float))
    assert_below(np.abs(product(name)(X, Y) - wide).max() / np.abs(wide).max(), 1e-6)


def test_onednn_where_it_is_known_to_work():
    there = sys.platform == "linux" and platform.machine() == "x86_64" and jax.__version_info__ >= (0, 12)
    assert [("onednn" in product(name).as_text()) for name in PRODUCTS] == 3 * [there]


def test_none_where_the_user_chose(monkeypatch):
    monkeypatch.setenv("XLA_FLAGS", "--xla_cpu_use_onednn=false")
    assert compiler.options() == {}


@pytest.mark.parametrize("target", ["gpu", "tpu"])
def test_none_for_an_accelerator(target):
    assert compiler.options(target) == {}
