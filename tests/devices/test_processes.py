import jax
import numpy as np
import pytest

from jaxflow.devices import mesh, processes

BY_HAND = {
    "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
    "JAX_NUM_PROCESSES": "4",
    "JAX_PROCESS_ID": "3",
}
SLURM = {"SLURM_JOB_ID": "7", "SLURM_STEP_NODELIST": "node[1-2]", "SLURM_PROCID": "1"}


@pytest.mark.parametrize(
    ("environment", "tpu", "expected"),
    [
        ({}, False, None),
        ({}, True, {}),
        (SLURM | {"SLURM_NTASKS": "2"}, False, {}),
        (SLURM | {"SLURM_NTASKS": "1"}, False, None),
        ({"SLURM_JOB_ID": "7", "SLURM_NTASKS": "2"}, False, None),  # a shell of the job, not a task of srun
        ({"OMPI_COMM_WORLD_SIZE": "2"}, False, {}),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1", "JOB_COMPLETION_INDEX": "0"}, False, {}),
        ({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, False, None),
        (BY_HAND, True, {"coordinator_address": "10.0.0.1:1234", "num_processes": 4, "process_id": 3}),
    ],
)
def test_processes_are_found_by_what_their_launcher_sets(environment, tpu, expected):
    assert processes.found(environment, tpu) == expected


def test_the_coordinator_of_one_machine_listens_on_it_alone():
    address = "127.0.0.1:1234"
    found = processes.found(BY_HAND | {"JAX_COORDINATOR_ADDRESS": address})
    assert found["coordinator_bind_address"] == address


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"JAX_NUM_PROCESSES": ""}, "JAX_NUM_PROCESSES is missing"),
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID = 4: must be at least 0 and below JAX_NUM_PROCESSES = 4"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID = -1"),
        ({"JAX_COORDINATOR_ADDRESS": "host"}, "JAX_COORDINATOR_ADDRESS = 'host': expected HOST:PORT"),
    ],
)
def test_invalid_variables_are_rejected(change, says):
    with pytest.raises(ValueError, match=says):
        processes.found(BY_HAND | change)


def test_processes_go_on_together_or_not_at_all(monkeypatch):
    assert processes.together(lambda: 7, lambda _: {"a": 1}) == 7
    with pytest.raises(OSError, match="gone"):
        processes.together(lambda: raising(OSError("gone")))
    for other, says in (
        ({"failure": None, "found": {"a": 1, "b": 3}}, "b is 2 in process 0 and 3 in process 1"),
        ({"failure": None, "found": {"a": 1}}, "b is 2 in process 0 and missing in process 1"),
        ({"failure": "no folder", "found": {}}, "process 1 of 2 failed: no folder"),
    ):
        monkeypatch.setattr(processes, "_gathered", lambda here, other=other: [here, other])
        with pytest.raises(ValueError, match=says):
            processes.together(lambda: 7, lambda _: {"a": 1, "b": 2})
    same = {"failure": None, "found": {"a": 1}}
    monkeypatch.setattr(processes, "_gathered", lambda here: [here, same])
    assert processes.together(lambda: 7, lambda _: {"a": 1}) == 7


def raising(error):
    raise error


def test_one_process_asks_nobody():
    assert processes.is_first()
    assert processes.of_first(7) == 7
    assert int(jax.device_get(processes.largest(mesh.over_examples())(15))) == 15
    assert np.ndim(processes.largest(mesh.over_examples())(0)) == 0
