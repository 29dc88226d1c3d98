import jax
import numpy as np
import pytest

from jaxflow.devices import layouts, processes

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
        ({"JAX_PROCESS_ID": "4"}, "JAX_PROCESS_ID = 4: a number from 0, below JAX_NUM_PROCESSES = 4"),
        ({"JAX_PROCESS_ID": "-1"}, "JAX_PROCESS_ID = -1"),
        ({"JAX_COORDINATOR_ADDRESS": "host"}, "JAX_COORDINATOR_ADDRESS = 'host': HOST:PORT"),
    ],
)
def test_variables_that_do_not_fit_are_refused(change, says):
    with pytest.raises(ValueError, match=says):
        processes.found(BY_HAND | change)


def test_one_process_asks_nobody():
    assert processes.is_first()
    assert processes.of_first(7) == 7
    assert int(jax.device_get(processes.largest(layouts.over_examples())(15))) == 15
    assert np.ndim(processes.largest(layouts.over_examples())(0)) == 0
