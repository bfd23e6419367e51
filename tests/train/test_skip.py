"""A step whose loss or gradient isn't finite, or is many times the usual, changes nothing and is counted."""

import json
import math

import chex
import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from test_loop import Numbers, run

from sora_jax.train.loop import LoopConfig
from sora_jax.train.skip import Recent, Skip, guarded_step, judge
from sora_jax.train.state import TrainState

JUDGE = jax.jit(judge, static_argnames="rule")
RULE = Skip(factor=4.0, window=5, at_most=2)


def judged(losses, rule=RULE, norms=None):
    recent, skipped = Recent.none(rule.window), []
    for step, (loss, norm) in enumerate(zip(losses, norms or [1.0] * len(losses), strict=True)):
        skip, recent = JUDGE(recent, np.int32(step), np.float32(loss), np.float32(norm), rule)
        skipped.append(bool(skip))
    return skipped, recent


def test_what_isn_t_finite_is_skipped_from_the_first_step_on():
    assert judged([1.0, math.nan, 1.0, math.inf])[0] == [False, True, False, True]
    assert judged([1.0, 1.0], norms=[math.nan, 1.0])[0] == [True, False]


def test_a_spike_is_skipped_once_the_window_is_full():
    assert judged([1.0, 9.0, 1.0, 1.0, 1.0, 3.9, 4.1, 1.0])[0] == [False] * 6 + [True, False]
    assert judged([1.0] * 7, norms=[1.0] * 5 + [50.0, 1.0])[0][5:] == [True, False]
    assert not any(judged([1.0] * 5 + [1e6], Skip(factor=math.inf, window=5))[0])
    # A loss below zero is compared by its size.
    assert judged([-1.0] * 5 + [-1.0, 3.0, 5.0])[0][5:] == [False, False, True]


def test_the_window_moves_on_with_a_loss_that_stays_high():
    skipped, recent = judged([1.0] * 5 + [9.0] * 4)
    assert skipped[5:] == [True, True, True, False]
    assert recent.skipped.sum() == 3


def test_recent_steps_come_back_from_json_exactly():
    _, recent = judged([0.1, 1 / 3, math.nan, 2.0])
    text = json.dumps(recent.to_json())
    chex.assert_trees_all_equal(Recent.from_json(json.loads(text), 5), jax.device_get(recent))
    assert Recent.from_json(json.loads(text), 6).seen == 0
    assert Recent.from_json(None, 5).seen == 0


def test_a_skipped_step_changes_nothing_but_its_number():
    def loss_fn(params, batch, key):
        return jnp.sum(params["w"] * batch["x"]), {}

    tx = optax.adam(0.1)
    state = TrainState.create({"w": jnp.ones(3)}, tx)
    step = jax.jit(
        lambda state, recent, x: guarded_step(
            state, recent, {"x": x}, jax.random.key(0), rule=RULE, loss_fn=loss_fn, tx=tx, ema_decay=0.9
        )
    )
    state, recent, values = step(state, Recent.none(5), jnp.ones(3))
    assert not values["skip"]
    after, recent, values = step(state, recent, jnp.array([1.0, jnp.nan, 1.0]))
    assert values["skip"]
    assert values["skipped"] == 1
    chex.assert_trees_all_equal(after.replace(step=state.step), state)
    assert after.step == state.step + 1


class Poisoned(Numbers):
    """A few examples that no loss survives."""

    def __init__(self, bad):
        self.bad = bad

    def __getitem__(self, index):
        x = np.full((4,), np.nan if index in self.bad else index, np.float32)
        return {"x": x, "index": index}


def config(**fields):
    return LoopConfig(batch_size=8, checkpoint_every=100, log_every=1, sample_every=0, **fields)


def test_a_run_passes_over_bad_batches_and_stops_at_one_too_many(tmp_path, capsys):
    bad = Poisoned({11, 5, 6})
    lenient = config(steps=6, skip=Skip(at_most=6))
    whole = run(tmp_path / "whole", 6, lenient, source=bad)
    assert np.isfinite(whole.params["w"]).all()
    lines = (tmp_path / "whole" / "skipped.jsonl").read_text().splitlines()
    skipped = [json.loads(line) for line in lines]
    assert all(len(line["examples"]) == 8 and bad.bad & {*line["examples"]} for line in skipped)
    assert skipped[0]["loss"] == "nan"
    assert 2 <= len(skipped) < 6
    assert f"step {skipped[0]['step']} was skipped" in capsys.readouterr().err
    metrics = [json.loads(line) for line in (tmp_path / "whole" / "metrics.jsonl").read_text().splitlines()]
    assert metrics[-1]["skipped"] == len(skipped)

    # It stops and goes on in the midst of that, to the bit.
    run(tmp_path / "parts", 3, config(steps=3, skip=lenient.skip), source=bad)
    chex.assert_trees_all_equal(run(tmp_path / "parts", 6, lenient, source=bad), whole)
    assert (tmp_path / "parts" / "skipped.jsonl").read_text().splitlines() == lines

    with pytest.raises(ValueError, match=r"2 of the last 100 steps were skipped.*skipped.jsonl") as error:
        run(tmp_path / "strict", 6, config(steps=6, skip=Skip(at_most=1)), source=bad)
    assert f"at step {skipped[1]['step']}" in str(error.value)
    assert len((tmp_path / "strict" / "skipped.jsonl").read_text().splitlines()) == 2


@pytest.mark.parametrize("wrong", [{"factor": 1.0}, {"window": 0}, {"at_most": -1}, {"factor": math.nan}])
def test_rules_that_can_t_be_are_refused(wrong):
    with pytest.raises(ValueError, match=f"skip: {next(iter(wrong))}"):
        Skip(**wrong)
