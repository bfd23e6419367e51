"""A record is what was measured, read back as it was written, and refused where it is anything else."""

import json

import jax
import pytest

from sora_jax.cli.main import main
from sora_jax.evals.bench.machine import record as make_record
from sora_jax.evals.bench.record import Machine, Measure, Peak, Record, Seconds, read, to_json, write
from sora_jax.evals.bench.timing import Effort, interleaved, measured, timed


def seconds(median):
    return Seconds(median=median, lower=0.9 * median, upper=1.2 * median, least=0.8 * median, repeats=5)


def record(median=0.5, **changes):
    measures = (
        Measure(
            name="train step",
            seconds=seconds(median),
            per_second={"tokens": 100 / median},
            flops=1e9,
            flops_per_second=1e9 / median,
            share_of_peak=1 / median / 4,
            compile_seconds=3.0,
            memory_bytes=2**20,
            figures={"psnr": None, "ratios": (1.0, 2.0)},
        ),
        Measure(name="run on its own data", figures={"data_wait": 0.01}),
    )
    machine = Machine(
        platform="cpu",
        device_kind="cpu",
        devices=1,
        processes=1,
        host_cpu="A CPU",
        host_cores=2,
        host_memory_bytes=2**34,
    )
    fields = {
        "bench": "train",
        "settings": {"batch_size": 4, "remat": None, "mesh": {"data": 1}},
        "measures": measures,
        "peak": Peak(flops_per_second=4e9, dtype="float32", source="measured"),
        "machine": machine,
        "mesh": {"data": 1},
        "versions": {"jax": "0.10.2"},
        "commit": "abc",
        "date": "2026-11-22T00:00:00+00:00",
    }
    return Record(**{**fields, **changes})


def test_a_record_comes_back(tmp_path):
    made = record()
    assert read(write(tmp_path / "new" / "a.json", made)) == made
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["a.json"]


def test_what_is_infinite_is_null():
    infinite = Measure(name="weights", figures={"psnr": float("inf")})
    tree = json.loads(to_json(record(measures=(infinite,))))
    assert tree["measures"][0]["figures"] == {"psnr": None}


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda tree: tree.pop("machine"), "lacks machine"),
        (lambda tree: tree.update(speed=3), "has unknown speed"),
        (lambda tree: tree.update(schema=2), "schema is 2"),
        (lambda tree: tree.update(measures=[]), "measures is empty"),
        (lambda tree: tree["measures"][0].update(flops="many"), r"measures\[0\].flops is 'many'"),
        (lambda tree: tree["measures"][0]["seconds"].update(least=9.0), "in this order"),
        (lambda tree: tree["machine"].pop("host_cores"), "machine lacks host_cores"),
        (lambda tree: tree["versions"].update(jax=1), "versions.jax is 1"),
    ],
)
def test_what_is_no_record_is_refused(tmp_path, change, said):
    tree = json.loads(to_json(record()))
    change(tree)
    path = tmp_path / "a.json"
    path.write_text(json.dumps(tree))
    with pytest.raises(ValueError, match=rf"a\.json: .*{said}"):
        read(path)


def test_files_that_are_no_records_are_named(tmp_path):
    with pytest.raises(ValueError, match="there is no record"):
        read(tmp_path / "a.json")
    (tmp_path / "a.json").write_text("{")
    with pytest.raises(ValueError, match="isn't JSON"):
        read(tmp_path / "a.json")


def test_records_are_compared(tmp_path, capsys):
    pytest.importorskip("matplotlib")
    before, after = write(tmp_path / "before.json", record(0.5)), write(tmp_path / "after.json", record(0.2))
    slower = record(1.0, settings={"batch_size": 8, "remat": None, "mesh": {"data": 1}})
    other = write(tmp_path / "other.json", slower)
    picture = tmp_path / "bench.png"
    assert main(["bench", "compare", *map(str, (before, after, other)), "--plot", str(picture)]) == 0
    said = " ".join(capsys.readouterr().out.split())
    assert "train: train step" in said
    assert "500 ms ±15 %, 50 % of peak" in said
    assert "2.50x" in said
    assert "0.50x" in said
    assert "setting batch_size: 4 in before, 8 in other" in said
    assert "run on its own data" not in said
    assert picture.stat().st_size > 1000


def test_comparisons_that_say_nothing_are_refused(tmp_path, capsys):
    one = str(write(tmp_path / "a.json", record()))
    assert main(["bench", "compare", one]) == 2
    assert "give at least two" in capsys.readouterr().err
    assert main(["bench", "compare", one, one]) == 2
    assert "named twice" in capsys.readouterr().err
    untimed = record(measures=(Measure(name="weights", figures={"bytes": 1.0}),))
    others = [str(write(tmp_path / name, untimed)) for name in ("b.json", "c.json")]
    assert main(["bench", "compare", *others]) == 2
    assert "hold no times" in capsys.readouterr().err


@pytest.fixture
def clocked(monkeypatch):
    """What makes calls that take given times by the clock, and the names of those that were run."""
    clock, called = [0.0], []

    def call(name, takes):
        def run():
            called.append(name)
            clock[0] += takes.pop(0)

        return run

    monkeypatch.setattr("sora_jax.evals.bench.timing.time.perf_counter", lambda: clock[0])
    return call, called


def test_calls_take_turns_and_spread_is_quartiles(clocked):
    call, called = clocked
    runs = {"a": call("a", [99, 1, 2, 3, 4, 5]), "b": call("b", [99, 2, 2, 2, 2, 2])}
    found = interleaved(runs, Effort(repeats=5, seconds=0))
    assert called == ["a", "b"] * 6
    a = found["a"]
    assert (a.least, a.lower, a.median, a.upper, a.repeats) == (1, 2, 3, 4, 5)
    assert found["b"].median == 2
    assert a.cpu_peak is None
    assert timed(call("c", [0, 1, 1, 1]), Effort(repeats=1, seconds=2.5)).repeats == 3


def test_a_cpu_is_measured_in_turns_with_the_calls(clocked, monkeypatch):
    call, called = clocked
    peaks = [400.0, 100.0, 200.0]

    def peak(repeats):
        called.append("peak")
        return peaks.pop(0)

    monkeypatch.setattr("sora_jax.evals.bench.timing.matmul_peak", peak)
    runs = {"a": call("a", [99, 0.25, 0.25, 12, 5]), "b": call("b", [99, 0.125, 0.25, 12, 5])}
    found = interleaved(runs, Effort(repeats=4, seconds=0), peak=True)["a"]
    assert called == ["a", "b", "peak", "a", "b", "a", "b", "peak", "a", "b", "peak", "a", "b"]
    assert found.cpu_peak == 200
    step = measured("step", seconds=found, flops=125 * 2.625, devices=2)
    assert step.share_of_peak == 0.625
    assert make_record("train", {}, [step]).peak.flops_per_second == 200 / jax.local_device_count()


@pytest.mark.parametrize("wrong", [{"repeats": 0}, {"seconds": -1.0}, {"warmup": -1}])
def test_efforts_that_measure_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        Effort(**wrong).checked()
