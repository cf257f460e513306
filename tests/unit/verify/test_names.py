"""What belongs to a run, and which runs are over."""

from __future__ import annotations

import datetime

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.verify import names

NOW = datetime.datetime(2026, 11, 21, 1, 0, 0, tzinfo=datetime.UTC)
OLD = names.new_run(NOW - datetime.timedelta(hours=1), 1)
YOUNG = names.new_run(NOW - datetime.timedelta(seconds=30), 2)


def test_a_run_is_named_after_the_moment_it_began() -> None:
    assert names.new_run(NOW, 0x3F9A) == "20261121t010000z-3f9a"
    assert names.began("20261121t010000z-3f9a") == NOW


@pytest.mark.parametrize("name", ["omtd-verify", "omtd-verify x", "my omtd-verify 20261121t010000z-3f9a", "Unnamed"])
def test_what_does_not_carry_a_runs_name_is_none_of_ours(name: str) -> None:
    assert names.run_of(name) == ""


def test_a_history_belongs_to_its_run() -> None:
    assert names.run_of(names.title(OLD)) == OLD


def test_a_run_is_alive_as_long_as_its_history_says_so() -> None:
    assert names.is_alive(OLD, names.alive_until(NOW), NOW + datetime.timedelta(seconds=299))
    assert not names.is_alive(OLD, names.alive_until(NOW), NOW + datetime.timedelta(seconds=300))


def test_a_run_that_could_not_say_so_yet_is_alive_while_it_is_young() -> None:
    assert names.is_alive(YOUNG, "", NOW)
    assert not names.is_alive(OLD, "", NOW)


def test_leftovers_are_those_of_dead_runs_and_nobody_elses() -> None:
    dead = names.new_run(NOW - datetime.timedelta(hours=2), 3)
    histories = [
        {"id": "h1", "name": names.title(OLD), "annotation": names.alive_until(NOW)},
        {"id": "h2", "name": names.title(dead), "annotation": None},
        {"id": "h3", "name": "a history of somebody's", "annotation": ""},
    ]
    workflows = [
        {"id": "w1", "name": names.title(OLD)},
        {"id": "w2", "name": names.title(dead)},
        {"id": "w3", "name": "somebody's workflow"},
    ]

    assert names.sort_out(histories, workflows, NOW) == names.Leftovers([OLD], ["h2"], ["w2"], [dead])
