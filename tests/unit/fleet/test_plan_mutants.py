# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Deliberate mistakes in plan.py: the properties must catch every one of them.

A mutant is the real source with one piece exchanged. A piece that is not there any more fails the test, so that the
mutants stay as real as the rules they break.
"""

from __future__ import annotations

import dataclasses
import sys
import types
import typing as t
from pathlib import Path

import plan_properties
import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import plan
from hypothesis import HealthCheck, Phase, given, settings

SOURCE = Path(plan.__file__).read_text(encoding="utf-8")
EXAMPLES = 1000


@dataclasses.dataclass(frozen=True)
class Mutant:
    """A mistake somebody could make."""

    name: str
    old: str
    new: str


MUTANTS = (
    Mutant("everything is ours", "return resource.tags.get(TAG_SITE) == site", "return True"),
    Mutant(
        "ours is what has any site's tag",
        "return resource.tags.get(TAG_SITE) == site",
        "return TAG_SITE in resource.tags",
    ),
    Mutant(
        "ours is what has our name",
        "return resource.tags.get(TAG_SITE) == site",
        "return resource.tags.get(TAG_SITE) == site or resource.name.startswith((site, reserved_name(site)))",
    ),
    Mutant(
        "a volume without a word about keeping is not kept", "TAG_KEEP) != _word(False)", "TAG_KEEP) == _word(True)"
    ),
    Mutant(
        "kept volumes go with their machine",
        "if self.is_kept(volume) or set(volume.attached_to)",
        "if set(volume.attached_to)",
    ),
    Mutant("kept volumes are pruned", "elif self.is_kept(volume):", "elif False:"),
    Mutant(
        "a site takes its kept volumes along",
        "if self.is_kept(volume) and not self.options.delete_kept_volumes:",
        "if self.is_kept(volume) and not self.options.confirm:",
    ),
    Mutant(
        "giving up kept volumes once is enough, also for pruning",
        "    def is_kept(self, volume: base.Volume) -> bool:\n",
        "    def is_kept(self, volume: base.Volume) -> bool:\n"
        "        if self.options.delete_kept_volumes:\n            return False\n",
    ),
    Mutant("surplus goes unasked", "        if self.options.prune:\n", "        if True:\n"),
    Mutant("a site goes without its name", "if self.options.confirm != self.site:", "if not self.options.confirm:"),
    Mutant("a site goes without a word", "if self.options.confirm != self.site:", "if False:"),
    Mutant(
        "names of strangers are taken", "        if not others:\n            return True\n", "        return True\n"
    ),
    Mutant("a volume shrinks", "if volume.size_gib < existing.size_gib:", "if False:"),
    Mutant("volumes grow on every run", "or volume.size_gib == existing.size_gib", ""),
    Mutant("a host that is there is made again", "machine = self.ours.hosts.get(key)\n", "machine = None\n"),
    Mutant("machines are never met", "        if not machine.ready:\n", "        if False:\n"),
    Mutant("machines are met on every run", "        if not machine.ready:\n", "        if True:\n"),
    Mutant("twins are both wanted", "if key is None or key in hosts:", "if key is None:"),
    Mutant("quota does not matter", "            if not need.fits:\n", "            if False:\n"),
    Mutant(
        "an address is given to two",
        "return fleet_spec.private_addresses(self.spec, {**others, **own})",
        "return fleet_spec.private_addresses(self.spec, {})",
    ),
    Mutant(
        "a machine is made before its volumes",
        'needs += [f"{CREATE} {VOLUME} {mount.volume}" for mount in wanted.mounts if mount.volume]',
        "",
    ),
    Mutant("a volume goes before its machine", "detail=why, needs=after))", "detail=why))"),
    Mutant(
        "networks go from under strangers",
        "if machine.id in ids}\n            if users:",
        "if machine.id in ids}\n            if False:",
    ),
    Mutant(
        "pruning takes networks that machines use",
        '            if users:\n                self.note("surplus", NETWORK',
        '            if False:\n                self.note("surplus", NETWORK',
    ),
    Mutant(
        "pruning takes what the file has",
        "for key, machine in self.ours.hosts.items() if key not in wanted",
        "for key, machine in self.ours.hosts.items()",
    ),
)


def mutated(mutant: Mutant) -> types.ModuleType:
    """plan.py with one mistake, as a module of its own."""
    assert mutant.old in SOURCE, f"{mutant.name}: plan.py has no {mutant.old!r} any more: write the mutant anew"
    module = types.ModuleType("mutant_of_plan")
    module.__package__ = plan.__package__
    module.__file__ = plan.__file__
    sys.modules[module.__name__] = module  # dataclasses look their module up
    exec(compile(SOURCE.replace(mutant.old, mutant.new), plan.__file__, "exec"), module.__dict__)  # noqa: S102
    return module


def is_caught(module: types.ModuleType) -> bool:
    """Whether a property fails."""

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=plan_properties.cases())
    def check(case: plan_properties.Case) -> None:
        for holds in plan_properties.PROPERTIES:
            try:
                holds(module, case)
            except (AssertionError, KeyError, RuntimeError, StopIteration) as exc:
                raise CaughtError from exc

    try:
        check()
    except CaughtError:
        return True
    return False


class CaughtError(Exception):
    """A property failed."""


def test_the_real_plan_is_not_caught() -> None:
    assert not is_caught(mutated(Mutant("no mistake", "TAG_SITE", "TAG_SITE")))


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.name.replace(" ", "-"))
def test_a_mistake_is_caught(mutant: Mutant) -> None:
    assert is_caught(mutated(mutant)), f"no property notices that {mutant.name}"


def test_every_mutant_is_another_mistake() -> None:
    names: t.Counter[str] = t.Counter(each.name for each in MUTANTS)
    assert max(names.values()) == 1
