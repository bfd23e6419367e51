import dataclasses
import json
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import tiny_model

from sora_jax.cli.main import main
from sora_jax.diffusion import Euler, MagCache, StepCache, TeaCache, start
from sora_jax.evals.bench.cache import THRESHOLDS, choices, measure, measured_ratios
from sora_jax.evals.bench.timing import Effort
from sora_jax.media import psnr
from sora_jax.studio.request import resolve

STEPS = 4


class Pipeline:
    """Steps that are made up: a cached run evaluates every other one and ends at half the latents."""

    config = tiny_model.CONFIG

    def begin(self, request):
        return self._at(request, 0)

    def advance(self, session):
        return self._at(session.request, session.generation.step + 1)

    def sample(self, request):
        return self._at(request, STEPS)

    def _at(self, request, i):
        x = jnp.full((1, 3, 2, 2, 6), 1.0 if request.cache is None else 0.5)
        gen = start(jax.random.key(0), x.shape, np.linspace(1, 0, STEPS + 1), stepper=Euler(), noise=x)
        level = jnp.asarray([0.5])
        cache = {"data": x - 0.5 * 2.0**i, "sigma": level, "evaluations": jnp.int32((i + 1) // 2)}
        gen = dataclasses.replace(gen, step=jnp.int32(i), cache={} if request.cache is None else cache)
        return SimpleNamespace(request=request, generation=gen)

    def decode_batch(self, latents):
        return np.asarray(latents)[..., :3]


def request():
    return resolve(tiny_model.CONFIG, ["a red circle"], steps=STEPS)


def test_psnr():
    assert psnr(np.ones(3), np.ones(3)) == float("inf")
    assert psnr(np.full(4, 0.2), np.zeros(4)) == pytest.approx(20)


def test_ratios_are_those_of_successive_velocities():
    np.testing.assert_allclose(measured_ratios(Pipeline(), request()), [1, 2, 2, 2])


def test_figures():
    caches = [("tea", StepCache(rule=TeaCache(threshold=0.2), order=1)), ("mag", StepCache(rule=MagCache()))]
    once = Effort(repeats=1, seconds=0, warmup=0)
    none, tea, mag = measure(Pipeline(), request(), caches, once, [1, 2])
    assert none.variant == "no cache"
    assert none.figures == {
        "evaluations": STEPS,
        "times_as_fast": 1,
        "psnr": float("inf"),
        "worst": float("inf"),
        "ratios": (1, 2),
    }
    assert tea.variant == "tea 0.2, order 1"
    assert (tea.figures["order"], tea.figures["threshold"], tea.figures["evaluations"]) == (1, 0.2, 2)
    assert tea.figures["psnr"] == tea.figures["worst"] == pytest.approx(10 * np.log10(4 / 0.25))
    assert tea.figures["times_as_fast"] > 0
    assert mag.variant.startswith("mag")


def test_every_rule_is_tried_at_every_threshold():
    tried = [
        (name, cache.order, cache.rule.threshold) for name, cache in choices(list(THRESHOLDS), np.ones(STEPS))
    ]
    assert len(tried) == len(set(tried)) == 24
    assert {name for name, _, _ in tried} == set(THRESHOLDS)


@pytest.mark.slow
def test_the_command(tmp_path, capsys):
    folder = tiny_model.write(tmp_path / "model")
    options = ["--model", str(folder), "--only", "mag", "--steps", "6", "--repeats", "1", "--json"]
    assert main(["bench", "cache", *options]) == 0
    found = json.loads(capsys.readouterr().out)
    first, *cached = found["measures"]
    assert len(first["figures"]["ratios"]) == 6
    assert [measure["variant"][:4] for measure in cached] == ["mag "] * 8
    assert main(["bench", "cache", "--only", "nothing"]) == 2
    assert "tea; first-block; mag" in capsys.readouterr().err
