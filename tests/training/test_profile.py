import jax.numpy as jnp
import pytest

from jaxflow.training.profile import BEFORE, STEPS, Profile


def steps(folder, start, count):
    with Profile(folder, start) as profile:
        for n in range(start + 1, start + count + 1):
            with profile.step(n):
                jnp.ones(3).block_until_ready()


@pytest.mark.parametrize("count", [BEFORE + STEPS + 2, BEFORE + 1])
def test_a_trace_of_some_steps_is_written_also_where_the_run_ends_in_it(count, tmp_path):
    steps(tmp_path / "profile", 100, count)
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    assert b"train" in trace.read_bytes()


def test_none_is_written_unless_asked_for(tmp_path):
    steps(None, 0, BEFORE + STEPS + 2)
    steps(tmp_path / "profile", 0, BEFORE)
    assert not list(tmp_path.iterdir())
