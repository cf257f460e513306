"""A run against a platform that does what the test says: progress, failures, what is taken away in any case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.verify import names, platform, run

NAME = "20261121t010000z-3f9a"
TOOLS = {"tokenise": "t1", "probe": "t2"}


class FakePlatform:
    """The part of platform.Galaxy that a run uses, in memory."""

    shown_as = "http://executor"

    def __init__(self, rounds: list[list[platform.Step]], lost: tuple[str, ...] = (), job_state: str = "ok") -> None:
        self.rounds = rounds
        self.lost = lost
        self.state_of_jobs = job_state
        self.purged: list[str] = []
        self.deleted: list[str] = []
        self.cancelled: list[str] = []
        self.names: list[str] = []
        self.jobs_submitted = 0

    def version(self) -> str:
        return "26.1"

    def reload_tools(self) -> None:
        pass

    def has_tool(self, tool: str) -> bool:
        return tool not in self.lost

    def make_history(self, title: str, annotation: str) -> str:
        assert names.run_of(title) == NAME
        assert "alive until" in annotation
        return "history"

    def annotate(self, history: str, annotation: str) -> None:
        pass

    def purge_history(self, history: str) -> None:
        self.purged.append(history)

    def upload_collection(self, history: str, name: str, documents: list[Path]) -> tuple[str, str]:
        self.names = [path.stem for path in documents]
        return "collection", "upload"

    def job_state(self, job: str) -> str:
        return "ok" if job == "upload" else self.state_of_jobs

    def job_states(self, history: str) -> dict[str, str]:
        return {str(number): self.state_of_jobs for number in range(self.jobs_submitted)}

    def run_tool(self, history: str, tool: str, inputs: dict[str, Any]) -> str:
        self.jobs_submitted += 1
        return str(self.jobs_submitted - 1)

    def elements(self, collection: str) -> dict[str, dict[str, Any]]:
        kept = [name for name in self.names if name not in self.lost]
        return {name: {"id": f"{collection}-{name}", "state": "ok"} for name in kept}

    def import_workflow(self, definition: dict[str, Any]) -> str:
        return "workflow"

    def delete_workflow(self, workflow: str) -> None:
        self.deleted.append(workflow)

    def invoke(self, workflow: str, history: str, collection: str) -> str:
        return "invocation"

    def steps(self, shown: dict[str, Any]) -> list[platform.Step]:
        return self.rounds.pop(0) if len(self.rounds) > 1 else self.rounds[0]

    def invocation(self, invocation: str) -> dict[str, Any]:
        collections = {label: {"id": label} for label in ("counts", "keywords")}
        return {"state": "scheduled", "output_collections": collections, "outputs": {"corpus": {"id": "corpus"}}}

    def reasons(self, history: str) -> list[str]:
        return ["count (2 jobs): exit code 125: no such image"]

    def cancel(self, invocation: str) -> None:
        self.cancelled.append(invocation)

    def download(self, datasets: dict[str, Path]) -> None:
        for dataset, target in datasets.items():
            target.write_text(dataset)

    def jobs(self, history: str) -> list[platform.Job]:
        return [platform.Job("1", "t1", "ok")]


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "POLL_SECONDS", 0)
    monkeypatch.setattr(run, "PROBE_POLL_SECONDS", 0)
    monkeypatch.setattr(run, "TOOLS_LIMIT_SECONDS", 0.1)


@pytest.fixture
def documents(tmp_path: Path) -> list[Path]:
    paths = [tmp_path / "one.txt", tmp_path / "two.txt"]
    for path in paths:
        path.write_text("text")
    return paths


def start(fake: FakePlatform, seconds: float = 60, said: list[str] | None = None) -> run.Run:
    started = run.Run(fake, NAME, TOOLS, seconds, (said if said is not None else []).append)  # type: ignore[arg-type]
    started.begin()
    return started


def test_progress_names_every_step_and_what_is_not_usual() -> None:
    steps = [
        platform.Step("count", {"ok": 3, "running": 2, "queued": 15}),
        platform.Step("merge", {}),
        platform.Step("keywords", {"error": 1, "paused": 1}),
    ]

    assert run.progress(steps) == "count 3/20 (2 running), merge 0/?, keywords 1/2 (1 paused, 1 error)"


def test_a_run_is_over_when_every_job_of_every_step_is(documents: list[Path], tmp_path: Path) -> None:
    rounds = [
        [platform.Step("count", {"ok": 2}), platform.Step("merge", {})],
        [platform.Step("count", {"ok": 2}), platform.Step("merge", {"queued": 1})],
        [platform.Step("count", {"ok": 2}), platform.Step("merge", {"ok": 1})],
    ]
    fake, said = FakePlatform(rounds), []  # type: ignore[var-annotated]
    started = start(fake, said=said)
    started.workflow({}, documents, tmp_path / "results")
    started.end()

    assert len(fake.rounds) == 1
    assert "count 2/2, merge 1/1" in said[-2]
    written = {str(path.relative_to(tmp_path / "results")) for path in (tmp_path / "results").rglob("*.tsv")}
    folders = ("counts", "keywords")
    assert written == {"corpus.tsv", *(f"{folder}/{name}.tsv" for folder in folders for name in ("one", "two"))}
    assert (fake.deleted, fake.purged) == (["workflow"], ["history"])


def test_a_failed_job_stops_the_workflow_and_gives_the_reason(documents: list[Path], tmp_path: Path) -> None:
    fake = FakePlatform([[platform.Step("count", {"ok": 1, "error": 1}), platform.Step("merge", {"paused": 1})]])

    with pytest.raises(platform.GalaxyError, match="exit code 125: no such image"):
        start(fake).workflow({}, documents, tmp_path / "results")
    assert (fake.cancelled, fake.deleted) == (["invocation"], ["workflow"])


def test_a_lost_document_is_named(documents: list[Path], tmp_path: Path) -> None:
    fake = FakePlatform([[platform.Step("count", {"ok": 2})]])
    started = start(fake)
    upload = started._upload

    def lose_one_later(paths: list[Path]) -> str:
        collection = upload(paths)
        fake.lost = ("two",)
        return collection

    started._upload = lose_one_later  # type: ignore[method-assign]
    with pytest.raises(platform.GalaxyError, match="counts: the result lacks two"):
        started.workflow({}, documents, tmp_path / "results")


def test_a_wrapper_that_galaxy_does_not_load_is_named() -> None:
    with pytest.raises(platform.GalaxyError, match=r"^t1: executor http://executor did not load this wrapper"):
        start(FakePlatform([], lost=("t1",)))


def test_time_that_is_over_says_what_was_waited_for(documents: list[Path], tmp_path: Path) -> None:
    fake = FakePlatform([[platform.Step("count", {"queued": 2})]])

    with pytest.raises(platform.GalaxyError, match=r"verify_timeout: 0 s are over.*count 0/2.*sinfo"):
        start(fake, seconds=0.2).workflow({}, documents, tmp_path / "results")


def test_the_probe_of_many_jobs_counts_those_that_are_lost() -> None:
    started = start(FakePlatform([], job_state="error"))

    with pytest.raises(platform.GalaxyError, match="3 of 3 small jobs were lost"):
        started.probe_parallel(3)
    assert started.results.parallel["lost"] == 3


def test_the_probe_of_latency_measures_every_job() -> None:
    started = start(FakePlatform([]))
    started.probe_latency(3)

    assert len(started.results.latency) == 3
