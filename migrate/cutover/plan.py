"""What a cutover or rollback would do, in order, and whether it is ready to. Only reads, on every server."""

from __future__ import annotations

from contextlib import closing
from dataclasses import dataclass
from typing import Any

from migrate.config import Config
from migrate.cutover.back import Back
from migrate.cutover.forward import Forward
from migrate.cutover.journal import Direction
from migrate.cutover.readiness import Check, Verifier
from migrate.cutover.step import Step


@dataclass(frozen=True)
class Plan:
    """`decision`: the number of the first step after which there is no way but forward."""

    direction: Direction
    checks: tuple[Check, ...]
    before: tuple[Step, ...]
    frozen: tuple[Step, ...]
    after: tuple[Step, ...]
    freeze_s: float

    @property
    def ready(self) -> bool:
        return all(c.ok for c in self.checks)

    def document(self) -> dict[str, Any]:
        return {
            "ok": self.ready,
            "executed": False,
            "direction": self.direction,
            "freeze_s": self.freeze_s,
            "checks": [c.document() for c in self.checks],
            "steps": [
                {"name": step.name, "does": step.does, "when": when}
                for when, steps in (("before", self.before), ("frozen", self.frozen), ("after", self.after))
                for step in steps
            ],
        }

    def text(self) -> str:
        lines = [c.text() for c in self.checks]
        numbers = iter(range(1, 100))

        def listed(steps: tuple[Step, ...]) -> list[str]:
            return [f"{next(numbers):3}. {step.name}: {step.does}" for step in steps]

        lines += ["", "before the freeze:", *listed(self.before)]
        lines += [
            f"the freeze, {self.freeze_s:g} s at most; any failure in it is undone at once:",
            *listed(self.frozen),
        ]
        lines += ["the switch is recorded: from here on there is only forward", *listed(self.after), ""]
        verdict = "READY" if self.ready else "NOT READY: see FAIL above"
        return "\n".join([*lines, f"{verdict}. Nothing was written; --execute does it."])


def plan_cutover(config: Config, verifier: Verifier, *, way_back: bool = True) -> Plan:
    """The plan of `migrate cutover`."""
    with closing(Forward(config, verifier, way_back=way_back)) as machine:
        return _plan(config, machine)


def plan_rollback(config: Config, verifier: Verifier) -> Plan:
    """The plan of `migrate rollback`."""
    with closing(Back(config, verifier)) as machine:
        return _plan(config, machine)


def _plan(config: Config, machine: Forward | Back) -> Plan:
    steps = (tuple(machine.before()), tuple(machine.frozen()), tuple(machine.after()))
    return Plan(machine.direction, tuple(machine.checks()), *steps, config.cutover.freeze_s)
