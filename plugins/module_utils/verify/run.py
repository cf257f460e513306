# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One run of verify on a platform: tools, documents, workflow, results; and the probes of its speed."""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import datetime
import statistics
import time
import typing as t
from pathlib import Path

from ansible_collections.omtd.workflow.plugins.module_utils.verify import names
from ansible_collections.omtd.workflow.plugins.module_utils.verify.platform import OVER, Galaxy, GalaxyError, Job, Step

TOOLS_LIMIT_SECONDS = 90
POLL_SECONDS = 2.0
PROBE_POLL_SECONDS = 0.2
HEARTBEAT_SECONDS = 60
# A line is written when something changed, but not more often than this.
QUIET_SECONDS = 4.0
SUBMITTERS = 4

Say = t.Callable[[str], None]


@dataclasses.dataclass
class Results:
    """What came of a run: seconds of its parts, jobs, and where in the folder the results are."""

    seconds: dict[str, float] = dataclasses.field(default_factory=dict)
    jobs: list[Job] = dataclasses.field(default_factory=list)
    documents: int = 0
    bytes: int = 0
    galaxy: str = ""
    latency: list[float] = dataclasses.field(default_factory=list)
    parallel: dict[str, float] = dataclasses.field(default_factory=dict)

    def as_dict(self) -> dict[str, t.Any]:
        """Give everything as plain values."""
        return dataclasses.asdict(self)


def utc_now() -> datetime.datetime:
    """Give the moment it is."""
    return datetime.datetime.now(tz=datetime.UTC)


class Run:
    """A run with its name, on a platform, with a clock of its own."""

    def __init__(self, galaxy: Galaxy, name: str, tools: dict[str, str], limit_seconds: float, say: Say) -> None:
        """tools are the ids by command: {tokenise: omtd_verify_…_tokenise, …}; say takes lines for the operator."""
        self.galaxy = galaxy
        self.name = name
        self.tools = tools
        self.say = say
        self.results = Results()
        self.began = time.monotonic()
        self.deadline = self.began + limit_seconds
        self.limit_seconds = limit_seconds
        self.history = ""
        self._beaten = 0.0

    # ------------------------------------------------------------ the clock

    def line(self, words: str) -> None:
        """Tell the operator, with the seconds since the beginning."""
        self.say(f"  {time.monotonic() - self.began:5.0f} s  {words}")

    def pause(self, seconds: float, waiting_for: str) -> None:
        """Wait a little; GalaxyError when the run's time is over."""
        now = time.monotonic()
        if now > self.deadline:
            raise GalaxyError(
                f"verify_timeout: {self.limit_seconds:.0f} s are over, and still waiting for {waiting_for};"
                " look at the cluster (sinfo -R and squeue on the master), then run verify again"
            )
        if self.history and now - self._beaten > HEARTBEAT_SECONDS:
            self._beaten = now
            self.galaxy.annotate(self.history, names.alive_until(utc_now()))
        time.sleep(seconds)

    @contextlib.contextmanager
    def timed(self, part: str) -> t.Iterator[None]:
        """Note how long a part took."""
        started = time.monotonic()
        yield
        self.results.seconds[part] = round(time.monotonic() - started, 2)

    # ------------------------------------------------------------ the parts

    def begin(self) -> None:
        """Have Galaxy load the tools, and make the history."""
        self.results.galaxy = self.galaxy.version()
        with self.timed("tools"):
            self.galaxy.reload_tools()
            self._wait_for_tools()
        self.history = self.galaxy.make_history(names.title(self.name), names.alive_until(utc_now()))
        self._beaten = time.monotonic()

    def _wait_for_tools(self) -> None:
        limit = time.monotonic() + TOOLS_LIMIT_SECONDS
        missing = list(self.tools.values())
        reloaded = time.monotonic()
        while missing := [tool for tool in missing if not self.galaxy.has_tool(tool)]:
            now = time.monotonic()
            if now > limit:
                raise GalaxyError(
                    f"{missing[0]}: executor {self.galaxy.shown_as} did not load this wrapper in"
                    f" {TOOLS_LIMIT_SECONDS} s; its log says why (journalctl -u 'galaxy-*'), and the directory of the"
                    " wrappers must be one of its tool_conf.xml (verify_tools_dir)"
                )
            if now - reloaded > 15:
                self.galaxy.reload_tools()
                reloaded = now
            self.pause(0.5, "Galaxy to load the tools")

    def workflow(self, definition: dict[str, t.Any], documents: list[Path], target: Path) -> None:
        """Upload the documents, run the workflow, and bring its results into a folder: counts/, keywords/ and
        corpus.tsv."""
        collection = self._upload(documents)
        workflow = self.galaxy.import_workflow(definition)
        try:
            with self.timed("workflow"):
                invocation = self.galaxy.invoke(workflow, self.history, collection)
                self._watch(invocation)
            with self.timed("download"):
                self._download(invocation, target, {path.stem for path in documents})
        finally:
            self.galaxy.delete_workflow(workflow)
        self.results.jobs = self.galaxy.jobs(self.history)

    def _upload(self, documents: list[Path]) -> str:
        sizes = {path.stem: path.stat().st_size for path in documents}
        self.results.documents, self.results.bytes = len(sizes), sum(sizes.values())
        self.line(f"uploading {len(sizes)} documents, {self.results.bytes / 1e6:.2f} MB")
        with self.timed("upload"):
            collection, job = self.galaxy.upload_collection(self.history, names.title(self.name), documents)
            while (state := self.galaxy.job_state(job)) not in OVER:
                self.pause(0.3, f"the upload, which is {state}")
            if state != "ok":
                raise GalaxyError(f"the upload ended as {state}: {'; '.join(self.galaxy.reasons(self.history))}")
            while True:
                elements = self.galaxy.elements(collection)
                states = {str(element["state"]) for element in elements.values()}
                if len(elements) == len(sizes) and states == {"ok"}:
                    break
                if states & {"error", "discarded", "failed_metadata"}:
                    raise GalaxyError(f"the upload left documents in state {', '.join(sorted(states))}")
                self.pause(0.3, "the uploaded documents to be ready")
        wrong = [name for name, size in sizes.items() if elements.get(name, {}).get("file_size", size) != size]
        if wrong:
            raise GalaxyError(f"the upload changed {', '.join(sorted(wrong))}: not the same number of bytes any more")
        return collection

    def _watch(self, invocation: str) -> None:
        shown, shown_at = "", 0.0
        while True:
            state = self.galaxy.invocation(invocation)
            steps = self.galaxy.steps(state)
            words = progress(steps)
            over = bool(steps) and all(step.jobs and step.over == step.jobs for step in steps)
            if words != shown and (over or time.monotonic() - shown_at > QUIET_SECONDS):
                self.line(words)
                shown, shown_at = words, time.monotonic()
            if any(step.failed for step in steps):
                # Give the others of the same kind the moment they need to fail too, for the sake of the report.
                self.pause(POLL_SECONDS, "failed jobs")
                reasons = self.galaxy.reasons(self.history)
                with contextlib.suppress(GalaxyError):
                    self.galaxy.cancel(invocation)
                raise GalaxyError("; ".join(reasons) or "a job failed, and Galaxy gives no reason")
            if over:
                return
            if state["state"] in ("failed", "cancelled", "cancelling"):
                said = "; ".join(str(message.get("reason") or message) for message in state.get("messages") or [])
                raise GalaxyError(f"Galaxy gave the workflow up ({state['state']}): {said or 'its log says why'}")
            self.pause(POLL_SECONDS, f"jobs of the workflow: {words}")

    def _download(self, invocation: str, target: Path, expected: set[str]) -> None:
        shown = self.galaxy.invocation(invocation)
        wanted: dict[str, Path] = {}
        for label in ("counts", "keywords"):
            elements = self.galaxy.elements(shown["output_collections"][label]["id"])
            if set(elements) != expected:
                lost = ", ".join(sorted(expected - set(elements)))
                raise GalaxyError(f"{label}: the result lacks {lost}; the platform lost datasets")
            folder = target / label
            folder.mkdir(parents=True, exist_ok=True)
            wanted |= {element["id"]: folder / f"{name}.tsv" for name, element in elements.items()}
        wanted[shown["outputs"]["corpus"]["id"]] = target / "corpus.tsv"
        self.line(f"downloading {len(wanted)} results")
        self.galaxy.download(wanted)

    def end(self) -> None:
        """Take away what the run made in Galaxy."""
        if self.history:
            self.galaxy.purge_history(self.history)
            self.history = ""

    # ------------------------------------------------------------ the probes

    def probe_latency(self, jobs: int) -> None:
        """Run one small job after the other; note the seconds from submission to `ok` of each."""
        for number in range(jobs):
            started = time.monotonic()
            job = self.galaxy.run_tool(self.history, self.tools["probe"], {"word": f"latency {number}"})
            while (state := self.galaxy.job_state(job)) not in OVER:
                self.pause(PROBE_POLL_SECONDS, f"a small job, which is {state}")
            if state != "ok":
                raise GalaxyError(f"a small job ended as {state}: {'; '.join(self.galaxy.reasons(self.history))}")
            self.results.latency.append(round(time.monotonic() - started, 2))
        best, middle = min(self.results.latency), statistics.median(self.results.latency)
        self.line(f"a small job from submission to ok: median {middle:.1f} s, best {best:.1f} s, of {jobs}")

    def probe_parallel(self, jobs: int) -> None:
        """Submit small jobs all at once; note how long until the last is over, and how many are not `ok`."""
        started = time.monotonic()

        def submit(number: int) -> str:
            return self.galaxy.run_tool(self.history, self.tools["probe"], {"word": f"parallel {number}"})

        with concurrent.futures.ThreadPoolExecutor(SUBMITTERS) as submitters:
            submitted = list(submitters.map(submit, range(jobs)))
        submission = time.monotonic() - started
        shown_at = 0.0
        while True:
            states = self.galaxy.job_states(self.history)
            over = sum(states.get(job, "") in OVER for job in submitted)
            if over == jobs:
                break
            if time.monotonic() - shown_at > QUIET_SECONDS:
                self.line(f"small jobs at once: {over}/{jobs}")
                shown_at = time.monotonic()
            self.pause(0.5, f"{jobs - over} of {jobs} small jobs")
        seconds = time.monotonic() - started
        good = sum(states.get(job) == "ok" for job in submitted)
        self.results.parallel = {
            "jobs": jobs,
            "ok": good,
            "lost": jobs - good,
            "seconds": round(seconds, 2),
            "submission_seconds": round(submission, 2),
        }
        self.line(f"small jobs at once: {good}/{jobs} ok in {seconds:.1f} s, {jobs - good} lost")
        if good < jobs:
            raise GalaxyError(
                f"{jobs - good} of {jobs} small jobs were lost: {'; '.join(self.galaxy.reasons(self.history))}"
            )


def progress(steps: t.Sequence[Step]) -> str:
    """Say how far a workflow is, step by step: `tokenise 20/20, count 3/20 (2 running)`."""
    words = []
    for step in steps:
        more = [
            f"{step.states[state]} {state}" for state in ("running", "paused", "error") if step.states.get(state, 0)
        ]
        words.append(f"{step.label} {step.over}/{step.jobs or '?'}" + (f" ({', '.join(more)})" if more else ""))
    return ", ".join(words)


def clear_leftovers(galaxy: Galaxy) -> names.Leftovers:
    """Take away what interrupted runs left in Galaxy; tell them, and the runs that go on."""
    found = names.sort_out(galaxy.own_histories(), galaxy.own_workflows(), utc_now())
    for history in found.histories:
        galaxy.purge_history(history)
    for workflow in found.workflows:
        galaxy.delete_workflow(workflow)
    return found


def clear_run(galaxy: Galaxy, run: str) -> list[str]:
    """Take away whatever one run still has in Galaxy, and have its wrappers forgotten; give the runs that go on."""
    for history in galaxy.own_histories():
        if names.run_of(history["name"]) == run:
            galaxy.purge_history(history["id"])
    for workflow in galaxy.own_workflows():
        if names.run_of(workflow["name"]) == run:
            galaxy.delete_workflow(workflow["id"])
    galaxy.reload_tools()
    return names.sort_out(galaxy.own_histories(), [], utc_now()).live
