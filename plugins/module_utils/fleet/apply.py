# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Carries a plan out: several actions at a time, each after those it needs.

An action that fails is named, and those that need it are left out; all others go on. What a killed run has left
is what the next one observes, so there is no state of ours to lose.
"""

from __future__ import annotations

import concurrent.futures
import dataclasses
import getpass
import os
import socket
import time
import typing as t

from ..clouds import base
from . import plan as fleet_plan

if t.TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

    from .spec import FleetSpec

LOCK_SECONDS = 1800
"""The lock is prolonged after every action; the longest action, an image that is made, takes minutes."""


@dataclasses.dataclass(frozen=True)
class Event:
    """One change of state. ``done`` of ``total`` actions have ended, the one of this event included when ``ended``."""

    kind: str
    name: str
    state: str
    done: int
    total: int
    seconds: float = 0.0
    ended: bool = False
    failed: bool = False

    def __str__(self) -> str:
        """As people see it: ``[3/12] machine lab-worker-1: is started (2.1 s)``."""
        width = len(str(self.total))
        took = f" ({self.seconds:.1f} s)" if self.ended else ""
        return f"[{self.done:>{width}}/{self.total}] {self.kind} {self.name}: {self.state}{took}"


Progress = t.Callable[[Event], None]


@dataclasses.dataclass(frozen=True)
class Failure:
    """An action that failed, or was left out because one that it needs failed."""

    action: fleet_plan.Action
    reason: str
    left_out: bool = False


@dataclasses.dataclass(frozen=True)
class Outcome:
    """What became of a plan."""

    plan: fleet_plan.Plan
    done: tuple[fleet_plan.Action, ...] = ()
    failures: tuple[Failure, ...] = ()

    def report(self) -> str:
        """What failed, one line a thing; '' when nothing did."""
        failed = [failure for failure in self.failures if not failure.left_out]
        lines = [f"{each.action.verb} {each.action.kind} {each.action.name}: {each.reason}" for each in failed]
        lines += [f"machine {fault}" for fault in self.plan.faults]
        if not lines:
            return ""
        waiting = sum(failure.left_out for failure in self.failures)
        head = f"{len(lines)} of the site {self.plan.site} failed, {len(self.done)} actions succeeded"
        head += f", {waiting} were left out. " if waiting else ". "
        return "\n".join(
            [head + "Run again when the cause is gone: what is made stays.", *(f"  - {line}" for line in lines)]
        )


PAST = {
    fleet_plan.CREATE: "is there",
    fleet_plan.GROW: "has grown",
    fleet_plan.ATTACH: "is attached",
    fleet_plan.START: "runs",
    fleet_plan.CONTACT: "is ready",
    fleet_plan.ADOPT: "is taken over",
    fleet_plan.DELETE: "is gone",
}


def perform(cloud: base.Cloud, action: fleet_plan.Action, report: base.Report) -> None:
    """Does one action. Raises CloudError."""
    calls: Mapping[tuple[str, str], Callable[[], None]] = {
        (fleet_plan.CREATE, fleet_plan.NETWORK): lambda: cloud.create_network(action.wanted),
        (fleet_plan.CREATE, fleet_plan.VOLUME): lambda: cloud.create_volume(action.wanted),
        (fleet_plan.CREATE, fleet_plan.ADDRESS): lambda: cloud.create_address(action.wanted),
        (fleet_plan.CREATE, fleet_plan.MACHINE): lambda: cloud.create_machine(action.wanted, report),
        (fleet_plan.GROW, fleet_plan.VOLUME): lambda: cloud.grow_volume(action.id, action.wanted),
        (fleet_plan.ATTACH, fleet_plan.VOLUME): lambda: cloud.attach_volume(action.name, action.id),
        (fleet_plan.START, fleet_plan.MACHINE): lambda: cloud.start_machine(action.id, action.wanted, report),
        (fleet_plan.CONTACT, fleet_plan.MACHINE): lambda: cloud.contact_machine(action.wanted, report),
        (fleet_plan.ADOPT, fleet_plan.MACHINE): lambda: cloud.adopt_machine(action.id, action.wanted),
        (fleet_plan.DELETE, fleet_plan.MACHINE): lambda: cloud.delete_machine(action.id, action.name),
        (fleet_plan.DELETE, fleet_plan.VOLUME): lambda: cloud.delete_volume(action.id),
        (fleet_plan.DELETE, fleet_plan.NETWORK): lambda: cloud.delete_network(action.id),
        (fleet_plan.DELETE, fleet_plan.ADDRESS): lambda: cloud.delete_address(action.id),
    }
    calls[action.verb, action.kind]()


def carry_out(
    plan: fleet_plan.Plan,
    cloud: base.Cloud,
    parallel: int,
    progress: Progress,
    renew: Callable[[], None] = lambda: None,
) -> Outcome:
    """Does a plan. Raises PlanError when it must not be done, CloudError when nothing could be begun.

    ``progress`` is called from one thread at a time, and never after the return.
    """
    if plan.problems:
        raise fleet_plan.PlanError(plan.problems)
    if not plan.actions:
        return Outcome(plan)
    return _Work(plan, cloud, progress, renew).run(parallel)


class _Work:
    """One plan that is being carried out. Only the calls to the cloud run in threads; what they tell is put in a queue
    by the threads and told by the caller's thread, because Ansible's display belongs to that."""

    def __init__(self, plan: fleet_plan.Plan, cloud: base.Cloud, progress: Progress, renew: Callable[[], None]) -> None:
        self.plan = plan
        self.cloud = cloud
        self.progress = progress
        self.renew = renew
        self.done: list[fleet_plan.Action] = []
        self.failures: list[Failure] = []

    @property
    def ended(self) -> int:
        return len(self.done) + len(self.failures)

    def tell(self, action: fleet_plan.Action, state: str, **more: t.Any) -> None:
        self.progress(Event(action.kind, action.name, state, self.ended, len(self.plan.actions), **more))

    def run(self, parallel: int) -> Outcome:
        machines = [
            action.wanted
            for action in self.plan.actions
            if (action.verb, action.kind) == (fleet_plan.CREATE, fleet_plan.MACHINE)
        ]
        if any(action.kind == fleet_plan.MACHINE and action.verb != fleet_plan.DELETE for action in self.plan.actions):
            total = len(self.plan.actions)
            self.cloud.prepare(machines, lambda state: self.progress(Event("site", self.plan.site, state, 0, total)))
        self.renew()
        waiting = list(self.plan.actions)
        states: list[tuple[fleet_plan.Action, str]] = []
        running: dict[concurrent.futures.Future[float], fleet_plan.Action] = {}
        with concurrent.futures.ThreadPoolExecutor(max_workers=max(parallel, 1)) as pool:
            while waiting or running:
                for action in self.ready(waiting, running.values()):
                    waiting.remove(action)
                    running[pool.submit(self.timed, action, states)] = action
                finished, _others = concurrent.futures.wait(
                    running, timeout=0.1, return_when=concurrent.futures.FIRST_COMPLETED
                )
                while states:
                    self.tell(*states.pop(0))
                for future in finished:
                    self.finish(running.pop(future), future)
                if finished:
                    self.renew()
                self.leave_out(waiting)
        return Outcome(self.plan, tuple(self.done), tuple(self.failures))

    def timed(self, action: fleet_plan.Action, states: list[tuple[fleet_plan.Action, str]]) -> float:
        started = time.monotonic()
        perform(self.cloud, action, lambda state: states.append((action, state)))
        return time.monotonic() - started

    def ready(
        self, waiting: Sequence[fleet_plan.Action], running: t.Iterable[fleet_plan.Action]
    ) -> list[fleet_plan.Action]:
        """The actions that nothing waits for any more."""
        open_keys = {action.key for action in waiting} | {action.key for action in running}
        return [action for action in waiting if not open_keys & set(action.needs)]

    def finish(self, action: fleet_plan.Action, future: concurrent.futures.Future[float]) -> None:
        try:
            seconds = future.result()
        except base.CloudError as exc:
            self.failures.append(Failure(action, str(exc)))
            self.tell(action, f"FAILED: {exc}", ended=True, failed=True)
        else:
            self.done.append(action)
            self.tell(action, PAST[action.verb], seconds=seconds, ended=True)

    def leave_out(self, waiting: list[fleet_plan.Action]) -> None:
        """Gives up what needs something that failed."""
        while True:
            lost = {failure.action.key for failure in self.failures}
            victims = [action for action in waiting if lost & set(action.needs)]
            if not victims:
                return
            for action in victims:
                waiting.remove(action)
                self.failures.append(Failure(action, "something that it needs failed", left_out=True))


# ------------------------------------------------------------------------------------------------------ all of it


def holder() -> str:
    """Who we are, for those who find the site locked."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = str(os.getuid())
    return f"{user}@{socket.gethostname()}"


def show(spec: FleetSpec, cloud: base.Cloud, options: fleet_plan.Options) -> tuple[fleet_plan.Plan, base.Observed]:
    """The plan and what it was made of. Changes nothing. Raises CloudError."""
    observed = cloud.observe()
    return fleet_plan.make_plan(spec, observed, cloud.capabilities, options), observed


def converge(
    spec: FleetSpec,
    cloud: base.Cloud,
    options: fleet_plan.Options,
    progress: Progress,
    show_plan: Callable[[fleet_plan.Plan], None] = lambda _plan: None,
) -> Outcome:
    """Looks, plans and does. Raises CloudError and PlanError; machines that failed are in the outcome."""
    if not cloud.capabilities.make:
        plan, _observed = show(spec, cloud, options)
        show_plan(plan)
        return carry_out(plan, cloud, 1, progress)
    lock = cloud.lock(holder(), LOCK_SECONDS)
    try:
        plan, _observed = show(spec, cloud, options)
        show_plan(plan)
        return carry_out(plan, cloud, spec.cloud.options["parallel"], progress, lock.renew)
    finally:
        lock.release()
