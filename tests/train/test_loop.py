"""A run that stops and goes on is the run that never stopped, to the bit, data order included."""

import dataclasses
import json
import os
import resource
import signal
import time

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn

from sora_jax.data.pipeline import batches
from sora_jax.parallel import MeshConfig, make_mesh
from sora_jax.train.checkpoint import Checkpoints, sampled_params
from sora_jax.train.loop import Clock, LoopConfig, train
from sora_jax.train.state import initial_state
from sora_jax.train.stop import StopRequests
from sora_jax.train.workdir import defaults_of


class Numbers:
    """Example i holds i, and a random map's draw shows whether augmentations come back the same."""

    def __len__(self):
        return 37

    def __getitem__(self, index):
        return {"x": np.full((4,), index, np.float32)}


def jitter(example, rng):
    return {"x": example["x"] + rng.standard_normal(4).astype(np.float32)}


def loss_fn(params, batch, key):
    found = batch["x"] / 37.0 @ params["w"]
    return jnp.mean(jnp.square(found - jax.random.normal(key, found.shape))), {}


def run(folder, steps, config=None, evaluate=None, source=None, width=4):
    config = config or LoopConfig(
        steps=steps, batch_size=8, checkpoint_every=100, log_every=1, sample_every=1
    )
    mesh, tx = make_mesh(MeshConfig()), optax.adamw(1e-2)
    axes = ("embed", "mlp")

    def init():
        normal = nn.with_logical_partitioning(nn.initializers.normal(), axes)
        return {"w": normal(jax.random.key(0), (4, width))}

    state, shardings = initial_state(init, tx, mesh, averaged=config.averaged)
    return train(
        workdir=folder,
        config=config,
        resolved=dataclasses.asdict(config),
        mesh=mesh,
        state=state,
        state_shardings=shardings,
        tx=tx,
        loss_fn=loss_fn,
        data=batches(source or Numbers(), batch_size=8, seed=1, random_maps=[jitter]),
        evaluate=evaluate,
    )


def test_two_and_two_steps_are_four(tmp_path):
    whole = run(tmp_path / "whole", 4)
    run(tmp_path / "parts", 2)
    parts = run(tmp_path / "parts", 4)
    chex.assert_trees_all_equal(whole, parts)
    lines = (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()
    losses = {json.loads(line)["step"]: json.loads(line)["loss"] for line in lines}
    expected = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert losses == {line["step"]: line["loss"] for line in expected}


def test_a_run_without_a_moving_average_samples_from_its_parameters(tmp_path):
    config = LoopConfig(steps=4, batch_size=8, checkpoint_every=100, log_every=1, ema_decay=0.0)
    seen = []

    def evaluate(state, step):
        seen.append((step, jax.device_get(state.sampled)))

    half = dataclasses.replace(config, steps=2, sample_every=1)
    run(tmp_path / "run", 2, half, evaluate)
    whole = run(tmp_path / "run", 4, dataclasses.replace(config, sample_every=1), evaluate)
    assert whole.ema is None
    averaged = run(tmp_path / "averaged", 4)
    chex.assert_trees_all_equal(whole.params, averaged.params)
    params, step = sampled_params(tmp_path / "run")
    assert step == seen[-1][0] == 4
    chex.assert_trees_all_equal(params, seen[-1][1], jax.device_get(whole.params))
    params, _ = sampled_params(tmp_path / "averaged")
    chex.assert_trees_all_equal(params, jax.device_get(averaged.ema))
    assert np.abs(averaged.ema["w"] - averaged.params["w"]).max() > 0


def test_sigterm_stops_with_a_checkpoint(tmp_path):
    def evaluate(state, step):
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

        time.sleep(60 * (step == 3))  # a sheet that takes its time is left at once

    began = time.monotonic()
    stopped = run(tmp_path / "run", 50, evaluate=evaluate)
    assert time.monotonic() - began < 30
    assert int(stopped.step) == 3
    config = LoopConfig(steps=50, batch_size=8, checkpoint_every=100, log_every=1, sample_every=1)
    checkpoints = Checkpoints(tmp_path / "run", dataclasses.asdict(config))
    assert checkpoints.newest == 3
    checkpoints.close()
    whole = run(tmp_path / "whole", 6)
    resumed = run(tmp_path / "run", 6)
    chex.assert_trees_all_equal(whole.params, resumed.params)


def test_a_full_disk_stops_the_run_and_the_checkpoint_before_is_gone_on_from(tmp_path):
    config = LoopConfig(steps=8, batch_size=8, checkpoint_every=2, log_every=1, sample_every=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)

    def fill(state, step):
        if step == 3:
            while not (tmp_path / "run" / "checkpoints" / "2").exists():
                time.sleep(0.01)
            # Writers are told of a file that is too large as of a full disk.
            resource.setrlimit(resource.RLIMIT_FSIZE, (2**17, limits[1]))

    width = 2**15  # 512 KB, which can't be compressed
    try:
        with pytest.raises(OSError, match=r"checkpoint of step 4 .*File too large.*that of step 2 is whole"):
            run(tmp_path / "run", 8, config, fill, width=width)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    resumed = run(tmp_path / "run", 8, config, width=width)
    chex.assert_trees_all_equal(resumed, run(tmp_path / "whole", 8, config, width=width))


def test_a_run_too_slow_to_stop_in_time_says_so_once(tmp_path, monkeypatch, capsys):
    config = LoopConfig(steps=5, batch_size=8, checkpoint_every=1, log_every=1, sample_every=0)
    run(tmp_path / "quick", 5, config)
    assert "longer notice" not in capsys.readouterr().err
    monkeypatch.setattr("sora_jax.train.stop.NOTICE", 0.0)
    run(tmp_path / "slow", 5, config)
    assert capsys.readouterr().err.count("have the platform give longer notice") == 1


def test_two_steps_and_a_checkpoint_are_what_a_stop_may_take(capsys):
    StopRequests().took(14.0, 2.0)
    assert not capsys.readouterr().err
    StopRequests().took(18.0, 5.0)
    assert "a stop by signal may take 41 s" in capsys.readouterr().err


def test_a_folder_of_another_config_is_refused(tmp_path):
    run(tmp_path, 1)
    with pytest.raises(ValueError, match="ema_decay"):
        run(tmp_path, 2, LoopConfig(steps=2, batch_size=8, checkpoint_every=100, log_every=1, ema_decay=0.5))


def test_a_folder_from_before_a_field_was_there_is_at_its_default(tmp_path):
    run(tmp_path, 1)
    path = tmp_path / "config.json"
    written = json.loads(path.read_text())
    before = {name: value for name, value in written.items() if name not in ("skip", "ema_decay")}
    path.write_text(json.dumps(before))
    run(tmp_path, 2)
    assert json.loads(path.read_text()).keys() == written.keys()
    path.write_text(json.dumps(before))
    with pytest.raises(ValueError, match=r"ema_decay is 0\.999, here 0\.5"):
        run(tmp_path, 3, LoopConfig(steps=3, batch_size=8, checkpoint_every=100, log_every=1, ema_decay=0.5))


def test_defaults_of_a_config_reach_into_those_in_it():
    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Inner:
        size: int
        depth: int = 3

    @dataclasses.dataclass(frozen=True, kw_only=True)
    class Outer:
        model: Inner
        chosen: Inner = Inner(size=1, depth=4)
        maybe: Inner | None = None
        name: str = "a"

    found = defaults_of(Outer(model=Inner(size=2), maybe=Inner(size=5)))
    assert found == {"model.depth": 3, "chosen.size": 1, "chosen.depth": 4, "maybe.depth": 3, "name": "a"}
    assert defaults_of(Outer(model=Inner(size=2)))["maybe"] is None


def test_a_folder_with_a_run_in_it_is_refused(tmp_path):
    first = Checkpoints(tmp_path, {})
    with pytest.raises(ValueError, match="another run"):
        Checkpoints(tmp_path, {})
    first.close()
    Checkpoints(tmp_path, {}).close()


def test_metrics_tell_rates(tmp_path):
    run(tmp_path, 4)
    last = json.loads((tmp_path / "metrics.jsonl").read_text().splitlines()[-1])
    assert last["step"] == 4
    assert {"loss", "gradient_norm", "steps_per_second", "flops_per_second", "share_of_peak"} <= last.keys()
    assert 0 <= last["data_wait"] < 1
    from_board = list((tmp_path / "tensorboard").iterdir())
    assert from_board


def test_the_share_of_waiting_for_data(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("sora_jax.train.loop.time.perf_counter", lambda: now[0])
    clock = Clock()

    def step(waits, works):
        with clock.waiting():
            now[0] += waits
        now[0] += works

    step(100, 100)
    assert clock.read(1) == {}
    step(1, 3)
    step(0, 4)
    assert clock.read(3) == {"steps_per_second": 0.25, "data_wait": 0.125}
    clock.pause()
    step(5, 5)
    assert clock.read(4) == {}


@pytest.mark.parametrize(
    "wrong", [{"steps": 0}, {"batch_size": -1}, {"batch_size": 6, "accumulate": 4}, {"ema_decay": 1.0}]
)
def test_loop_refuses_what_can_t_be(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        LoopConfig(**wrong)


def losses_of(folder):
    return [json.loads(line)["loss"] for line in (folder / "metrics.jsonl").read_text().splitlines()]


def test_metrics_are_the_means_since_the_last(tmp_path):
    config = LoopConfig(steps=5, batch_size=8, checkpoint_every=100, log_every=1, sample_every=0)
    run(tmp_path / "each", 5, config)
    run(tmp_path / "pairs", 5, dataclasses.replace(config, log_every=2))
    each = losses_of(tmp_path / "each")
    expected = [(each[0] + each[1]) / 2, (each[2] + each[3]) / 2, each[4]]
    np.testing.assert_allclose(losses_of(tmp_path / "pairs"), expected, rtol=1e-6)
