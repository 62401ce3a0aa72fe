"""What the state machines of the detector and of healers share: services, buses, and time that passes."""

import functools
from collections.abc import Callable
from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import rule

from support.simulation.manual_detector import watch

SERVICES = (
    (watch("a", 1.0, 3.0, "x"), True),
    (watch("b", 0.7, 2.0, "y"), False),
    (watch("c", 2.0, 4.0, "x"), False),
    (watch("d", 1.0, 6.0, "y"), True),
)
"""What is watched, and whether its beats have a boot."""

services = st.sampled_from("abcd")
modern = st.sampled_from("ad")
buses = st.sampled_from("xy")


def steps(*pauses: float) -> Callable[..., Any]:
    """Return a decorator: a rule, after which the fleet runs on for one of so many seconds."""

    def step(**what: Any) -> Callable[..., Any]:
        def wrap(do: Callable[..., None]) -> Any:
            @functools.wraps(do)
            def rule_then_run(self: Any, then: float, **drawn: Any) -> None:
                do(self, **drawn)
                self.fleet.run(then)

            return rule(then=st.sampled_from(pauses), **what)(rule_then_run)

        return wrap

    return step
