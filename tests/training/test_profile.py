import jax
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


def test_the_last_step_of_the_trace_has_ended_when_it_is_closed(tmp_path, monkeypatch):
    slow = jax.jit(lambda x: jax.lax.fori_loop(0, 20, lambda i, x: jnp.sin(x @ x), x))
    stop, ended, outputs = jax.profiler.stop_trace, [], {}

    def note_and_stop():
        ended.extend(n for n, output in outputs.items() if output.is_ready())
        stop()

    monkeypatch.setattr(jax.profiler, "stop_trace", note_and_stop)
    with Profile(tmp_path / "profile", 0) as profile:
        for n in range(
            1, BEFORE + STEPS + 5
        ):  # as the loop: it waits for a step when it has started the next
            with profile.step(n):
                outputs[n] = slow(jnp.ones((300, 300)))
            if n > 1:
                outputs[n - 1].block_until_ready()
    assert ended[: BEFORE + STEPS] == list(range(1, BEFORE + STEPS + 1))
    (trace,) = (tmp_path / "profile").rglob("*.xplane.pb")
    planes = jax.profiler.ProfileData.from_file(str(trace)).planes
    names = [event.name for plane in planes for line in plane.lines for event in line.events]
    assert names.count("train") == STEPS


def test_none_is_written_unless_asked_for(tmp_path):
    steps(None, 0, BEFORE + STEPS + 2)
    steps(tmp_path / "profile", 0, BEFORE)
    assert not list(tmp_path.iterdir())
