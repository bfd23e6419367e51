import pytest

from sora_jax.evals.oracle import format_accuracy, oracle_accuracy, through_h264


def check(accuracy, least):
    table = format_accuracy(accuracy)
    for name, (right, asked) in accuracy.items():
        assert name == "whole" or right >= least * asked, table


def test_accuracy_on_fresh_clips():
    check(oracle_accuracy(150), 0.98)


def test_accuracy_after_h264():
    check(oracle_accuracy(50, through_h264), 0.95)


@pytest.mark.slow
@pytest.mark.parametrize(("through", "least"), [(None, 0.99), (through_h264, 0.97)])
def test_accuracy_on_a_thousand_clips(through, least):
    check(oracle_accuracy(1000, through), least)
