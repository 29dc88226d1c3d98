"""Compiling for absent TPUs: reading HLO, and, where libtpu is installed, a tiny network on v5e:2x2."""

import json
import re
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import pytest

from experiments.benchmarks import programs, tpu
from experiments.benchmarks.collectives import Traffic, traffic
from jaxflow.devices import mesh, parallel
from jaxflow.training import flops

HLO = """HloModule step, is_scheduled=true, num_partitions=16

%body (state: (s32[], bf16[64,256])) -> (s32[], bf16[64,256]) {
  %kernel = bf16[16,256]{1,0:T(8,128)(2,1)} get-tuple-element(%state), index=1
  %all-gather.1 = bf16[64,256]{1,0:T(8,128)(2,1)S(1)} all-gather(%kernel), channel_id=1, GROUPS, \
dimensions={0}
  %two = s32[]{:T(128)} constant(2)
  %next = s32[]{:T(128)} add(%index, %two)
  ROOT %tuple = (s32[], bf16[64,256]) tuple(%next, %all-gather.1)
}

%condition (state: (s32[], bf16[64,256])) -> pred[] {
  %limit = s32[]{:T(128)} constant(24)
  %state = (s32[], /*index=1*/bf16[64,256]) parameter(0)
  %index = s32[]{:T(128)} get-tuple-element(%state), index=0
  ROOT %lt = pred[]{:T(512)} compare(%index, %limit), direction=LT
}

%all-reduce-scatter.1 (input: f32[256,64]) -> f32[16,64] {
  %all-reduce.1 = f32[256,64]{1,0} all-reduce(%input), channel_id=4, replica_groups={}, to_apply=%add
  ROOT %slice = f32[16,64]{1,0} dynamic-slice(%all-reduce.1, %offset, %zero), dynamic_slice_sizes={16,64}
}

%fusion_part (input: f32[8]) -> f32[8] {
  ROOT %all-reduce.2 = f32[8]{0} all-reduce(%input), channel_id=3, replica_groups={{0,1},{2,3}}, to_apply=%add
}

ENTRY %main (param: f32[256,64]) -> f32[16,64] {
  %while.1 = (s32[]{:T(128)}, bf16[64,256]{1,0:T(8,128)}) while(%init), condition=%condition, body=%body
  %sums.1 = f32[8]{0} fusion(%param), kind=kLoop, calls=%fusion_part
  %sums.2 = f32[8]{0} all-reduce(%input), channel_id=3, replica_groups={{0,1},{2,3}}, to_apply=%add
  %ring = (f32[8]{0}, f32[8]{0}, u32[]{:S(2)}, u32[]{:S(2)}) collective-permute-start(%param), channel_id=5, \
source_target_pairs={{0,1},{1,2},{2,3},{3,0}}
  %ring.1 = f32[8]{0} collective-permute-done(%ring)
  ROOT %fusion.1 = f32[16,64]{1,0} fusion(%param), kind=kCustom, calls=%all-reduce-scatter.1
}
"""


@pytest.mark.parametrize(
    "groups",
    [
        "replica_groups={{0,1,2,3},{4,5,6,7},{8,9,10,11},{12,13,14,15}}",
        "replica_groups=[4,4]<=[16]",
        "replica_groups=mesh['axis_0'=4,'axis_1'=4] {'axis_1'}",
        "replica_groups=mesh['axis_0'=2,'axis_1'=8] ([2,8]T(1,0)) {'axis_1':(1)4}",
    ],
)
def test_collectives_of_a_tpu_program(groups):
    """Iterations multiply, parts of one collective count once, a ring of n sends (n - 1) / n of the array."""
    assert traffic(HLO.replace("GROUPS", groups)) == {
        "all-gather": Traffic(12, round(12 * 2 * 64 * 256 * 3 / 4)),
        "all-reduce": Traffic(1, round(2 * 4 * 8 / 2)),
        "reduce-scatter": Traffic(1, round(4 * 256 * 64 * 15 / 16)),
        "collective-permute": Traffic(1, round(4 * 8 * 4 / 16)),
    }


def test_a_loop_of_unknown_length_is_an_error():
    with pytest.raises(ValueError, match="loop condition: its text does not tell how often it runs"):
        traffic(HLO.replace("constant(24)", "parameter(0)"))


def test_collectives_of_a_program_compiled_here():
    """A scan of 5 whose body sums over the devices."""
    examples = mesh.over_examples()

    def step(x, _):
        return x * jnp.mean(x), None

    x = jax.ShapeDtypeStruct((8,), jnp.float32, sharding=examples)
    compiled = jax.jit(lambda x: jax.lax.scan(step, x, None, length=5)[0]).lower(x).compile()
    assert traffic(compiled.as_text()) == {"all-reduce": Traffic(5, 5 * 2 * 4 * 3 // 4)}


def tiny():
    """DiT of one block as wide as a TPU's lanes, so that its kernels are sharded."""
    return programs.run("digits", dtype="bfloat16", remat=True, width=128, depth=1, heads=2, mlp_ratio=1)


def test_every_preset_and_published_size_has_a_run():
    assert {"digits", "mnist", "shapes", "shapes_dit", "folder", "DiT-S", "DiT-XL"} <= set(programs.names())
    for name in programs.names():
        run = programs.run(name, dtype="bfloat16", remat=True)
        assert run.experiment.network.dtype == "bfloat16"
        assert run.experiment.network.encode is not None


def test_operations_of_the_sampler_are_those_of_its_network_evaluations():
    """Heun evaluates the network twice a step, and guidance at y and at null each time."""
    run, n = tiny(), 2
    arguments = run.shapes, jnp.zeros((n, 8, 8, 1)), jnp.zeros(n), jnp.zeros(n, jnp.int32)
    once = flops.count(lambda params, *xty: run.model(params).field(*xty), *arguments)
    assert programs.sampler(run, parallel.placement("jit"), n, steps=1).operations == 4 * once


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nonsense"], "program = 'nonsense': must be one of digits, .*DiT-XL"),
        (["digits", "--batch", "0"], "batch = 0"),
        (["digits", "--effort", "2"], "effort = 2.0: must be from -1 to 1"),
        (["digits", "--topology", "v9:2x2"], "topology = 'v9:2x2': .*extra tpu-compile"),
    ],
)
def test_bad_input_is_one_line(arguments, message, capsys):
    with pytest.raises(SystemExit) as stop:
        tpu.main(arguments)
    assert stop.value.code == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert re.search(message, line)


@pytest.mark.skipif(find_spec("libtpu") is None, reason="the extra tpu-compile is not installed")
def test_a_training_step_on_four_chips(tmp_path, monkeypatch, capsys, standard_promotion):
    """Under fsdp a chip holds a quarter of each kernel and sends less than two layers' activations.

    With libtpu 0.0.42.1 it is 1.7 MB, and 2.6 MB without the constraints of `devices/mesh.py`.
    """
    run, file = tiny(), tmp_path / "rows.json"
    monkeypatch.setattr(programs, "run", lambda name, **_: run)
    arguments = ["digits", "--parallel", "fsdp", "--programs", "step", "--effort", "-1", "--batch", "64"]
    tpu.main([*arguments, "--json", str(file)])
    (row,) = json.loads(file.read_text())
    state = 4 * 4 * sum(leaf.size for leaf in jax.tree.leaves(run.shapes))
    assert state / 4 < row["memory"]["arguments"] < state / 2
    sent = sum(size for _, size in row["collectives"].values())
    activations = 4 * 64 * 16 * 128 * 2  # bytes of all tokens after one layer; a block has a dozen layers
    assert 0 < sent < 2 * activations
    assert "fsdp" in capsys.readouterr().out
