import jax
import numpy as np
import pytest

from sora_jax.parallel import MeshConfig, data_host, make_mesh, place_batch, start
from sora_jax.parallel.hosts import Meeting


def test_one_process_alone_starts_nothing(monkeypatch):
    monkeypatch.delenv("JAX_COORDINATOR_ADDRESS", raising=False)
    monkeypatch.setattr(jax.distributed, "initialize", lambda *_, **__: pytest.fail("was started"))
    start()
    assert jax.process_count() == 1


@pytest.mark.parametrize(
    ("environment", "arguments"),
    [
        (
            {
                "JAX_COORDINATOR_ADDRESS": "10.0.0.1:1234",
                "JAX_NUM_PROCESSES": "4",
                "JAX_PROCESS_ID": "3",
            },
            ("10.0.0.1:1234", 4, 3),
        ),
        ({"SLURM_STEP_NUM_TASKS": "8"}, (None, None, None)),
    ],
)
def test_others_are_found_from_the_environment(monkeypatch, environment, arguments):
    seen = []
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(
        jax.distributed,
        "initialize",
        lambda address, num_processes, process_id: seen.append((address, num_processes, process_id)),
    )
    start()
    assert seen == [arguments]


def test_others_that_can_t_be_found_are_one_sentence(monkeypatch):
    def fail(*_, **__):
        raise ValueError("coordinator_address should be defined.")

    monkeypatch.setattr(jax.distributed, "initialize", fail)
    with pytest.raises(ValueError, match="set JAX_COORDINATOR_ADDRESS"):
        start(distributed=True)


def test_a_process_alone_waits_for_none_and_its_error_is_raised():
    meeting = Meeting(1.0)
    meeting.wait("step 1")
    with pytest.raises(OSError, match="no room"):
        meeting.wait("step 2", OSError("no room"))


def test_a_batch_lies_over_data_and_fsdp():
    mesh = make_mesh(MeshConfig(data=2, fsdp=2, context=2))
    assert data_host(mesh) == (0, 1)
    batch = place_batch({"x": np.arange(8.0)}, mesh)
    np.testing.assert_array_equal(batch["x"], np.arange(8.0))
    assert batch["x"].addressable_shards[0].data.shape == (2,)
    with pytest.raises(ValueError, match="choose a multiple of 4"):
        place_batch({"x": np.arange(6.0)}, mesh)
