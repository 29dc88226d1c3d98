import dataclasses

import pytest

from experiments import presets
from jaxflow.runs import limits

EXPERIMENT = dataclasses.replace(presets.load("folder").experiment, batch_size=32, accumulate=1)


@pytest.fixture(autouse=True)
def _machine(monkeypatch):
    """A gigabyte of memory."""
    monkeypatch.setattr(limits, "memory", lambda: 10**9)


def test_a_batch_beyond_the_memory_is_rejected():
    limits.check_batch(EXPERIMENT, (512, 512, 3))
    with pytest.raises(ValueError, match=r"image_size = 1024, batch_size = 32: such a batch takes 1.61 GB"):
        limits.check_batch(EXPERIMENT, (1024, 1024, 3))
    limits.check_batch(dataclasses.replace(EXPERIMENT, accumulate=4), (1024, 1024, 3))


def test_a_state_beyond_the_memory_is_rejected(monkeypatch):
    limits.check_state(10**9, sharded=False)
    with pytest.raises(
        ValueError, match=r"moments take 1.1 GB, more than the 1 GB of memory: make it narrower"
    ):
        limits.check_state(1_100_000_000, sharded=True)  # CPU devices share the memory
    monkeypatch.setattr(limits, "_devices", lambda: 4)
    limits.check_state(1_100_000_000, sharded=True)
    with pytest.raises(ValueError, match="or shard it with --parallel fsdp"):
        limits.check_state(1_100_000_000, sharded=False)


def test_a_network_of_more_blocks_than_can_be_built_is_rejected():
    network = EXPERIMENT.network
    limits.check_blocks(network)
    limits.check_blocks(network.clone(depth=1000, scan=True))
    with pytest.raises(ValueError, match=r"network: it has 1000 blocks, .* lower its depth"):
        limits.check_blocks(network.clone(depth=1000))
