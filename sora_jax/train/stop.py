"""Requests to stop a run: SIGTERM, as a machine that is taken away sends, and Ctrl-C."""

import contextlib
import signal
import sys
from collections.abc import Callable
from typing import TypeVar

import jax
from jax.experimental import multihost_utils

T = TypeVar("T")

NOTICE = 30.0
"""Seconds between the signal and the end of a machine: what spot machines of Google's give
(cloud.google.com/compute/docs/instances/preemptible)."""


class _Interrupted(BaseException):
    """A request came while what runs may be left at once."""


class StopRequests:
    """Within it, SIGTERM and SIGINT are noted instead of obeyed at once.

    Several processes must stop at the same step: JAX takes note of a SIGTERM to any, and they agree on the step.
    """

    def __init__(self):
        self.asked = False
        """Whether this process was told to stop; of several, `at` alone knows."""
        self._interruptible = False
        self._previous = {}
        self._warned = False

    def __enter__(self) -> "StopRequests":
        if jax.process_count() == 1:
            for number in (signal.SIGTERM, signal.SIGINT):
                with contextlib.suppress(ValueError):  # not the main thread
                    self._previous[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, *_) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)

    def _note(self, number, frame) -> None:
        self.asked = True
        if self._interruptible:
            self._interruptible = False
            raise _Interrupted

    def at(self, step: int) -> bool:
        """Whether to stop after this step."""
        return multihost_utils.reached_preemption_sync_point(step) if jax.process_count() > 1 else self.asked

    def took(self, step: float, save: float) -> None:
        """Says once that a stop may take longer than NOTICE, of a run whose step and checkpoint took so many seconds.

        At the signal one step may be at work and the next sent off, and a state is whole only where both have ended.
        """
        most = 2 * step + save
        if most <= NOTICE or self._warned:
            return
        self._warned = True
        if jax.process_index() == 0:
            print(
                f"sora-jax: a step takes {step:.3g} s and a checkpoint {save:.3g} s, so a stop by signal may take "
                f"{most:.0f} s, and a machine is often gone after {NOTICE:g} s: have the platform give longer notice, "
                "or lose less by a smaller --checkpoint-every.",
                file=sys.stderr,
            )

    def unless_asked(self, work: Callable[[], T]) -> T | None:
        """What `work()` gives; it is left at once, and None given, when a request comes to this process alone."""
        try:
            self._interruptible = True
            return None if self.asked else work()
        except _Interrupted:
            return None
        finally:
            self._interruptible = False
