# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What belongs to a run of verify, by its name. No I/O.

Everything a run makes on a site carries the run's name, and a run's name says when it began. So runs never meet, and
what an interrupted run left behind is known for what it is.
"""

from __future__ import annotations

import datetime
import re
import typing as t

PREFIX = "omtd-verify"
# How long a run may be silent before it counts as interrupted: a poll is a few seconds, a slow upload a few minutes.
SILENCE_SECONDS = 300
RUN = re.compile(r"(?P<time>\d{8}t\d{6}z)-[0-9a-f]{4}")
TITLE = re.compile(rf"{PREFIX} (?P<run>{RUN.pattern})")
ALIVE = re.compile(r"alive until (?P<time>\d{8}t\d{6}z)")
TIME_FORMAT = "%Y%m%dt%H%M%Sz"


def stamp(moment: datetime.datetime) -> str:
    """Write a moment as names have it, in UTC to the second: 20261121t005012z."""
    return moment.astimezone(datetime.UTC).strftime(TIME_FORMAT)


def moment_of(text: str) -> datetime.datetime:
    """Read a moment from a name."""
    return datetime.datetime.strptime(text, TIME_FORMAT).replace(tzinfo=datetime.UTC)


def new_run(moment: datetime.datetime, token: int) -> str:
    """Name a run that begins now; the token, any number, keeps apart two that begin in the same second."""
    return f"{stamp(moment)}-{token & 0xFFFF:04x}"


def title(run: str) -> str:
    """Name the history and the workflow of a run."""
    return f"{PREFIX} {run}"


def run_of(name: str) -> str:
    """Give the run that a history or workflow of this name belongs to, '' for none of ours."""
    match = TITLE.match(name)
    return match["run"] if match else ""


def began(run: str) -> datetime.datetime:
    """Give the moment a run began; ValueError for something that is not the name of a run."""
    match = RUN.fullmatch(run)
    if not match:
        raise ValueError(f"{run}: is not the name of a run")
    return moment_of(match["time"])


def alive_until(moment: datetime.datetime) -> str:
    """Give the annotation of a history whose run is alive now."""
    return f"alive until {stamp(moment + datetime.timedelta(seconds=SILENCE_SECONDS))}"


def is_alive(run: str, annotation: str, now: datetime.datetime) -> bool:
    """Say whether a run still goes on, from the annotation of its history; without one, from its name."""
    match = ALIVE.search(annotation)
    if match:
        return moment_of(match["time"]) > now
    return began(run) + datetime.timedelta(seconds=SILENCE_SECONDS) > now


class Leftovers(t.NamedTuple):
    """What runs left on a platform: of those that still go on the names, of the others what is to be taken away."""

    live: list[str]
    histories: list[str]
    """ids"""
    workflows: list[str]
    """ids"""
    runs: list[str]


def sort_out(histories: list[dict[str, t.Any]], workflows: list[dict[str, t.Any]], now: datetime.datetime) -> Leftovers:
    """Tell live runs from leftovers. Both lists are as Galaxy gives them: id, name and, of histories, annotation."""
    live, dead_histories, dead_runs = [], [], []
    for history in histories:
        run = run_of(history["name"])
        if not run:
            continue
        if is_alive(run, history.get("annotation") or "", now):
            live.append(run)
        else:
            dead_histories.append(history["id"])
            dead_runs.append(run)
    dead_workflows = []
    for workflow in workflows:
        run = run_of(workflow["name"])
        # A workflow is imported after its history was made, so without a live history its run is over.
        if run and run not in live:
            dead_workflows.append(workflow["id"])
            dead_runs.append(run)
    return Leftovers(sorted(set(live)), dead_histories, dead_workflows, sorted(set(dead_runs)))
