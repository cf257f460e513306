# Copyright (c) the omtd.workflow contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The executor's Galaxy as verify uses it: BioBlend calls, with errors an operator can act on.

Sources: Galaxy's REST API 26.1 (/api/docs of an instance) and BioBlend 1.9.
"""

from __future__ import annotations

import concurrent.futures
import contextlib
import dataclasses
import json
import logging
import typing as t
from pathlib import Path

from ansible_collections.omtd.workflow.plugins.module_utils.verify import names

try:
    import bioblend
    import requests
    from bioblend import galaxy as bioblend_galaxy
    from bioblend.util import attach_file
except ImportError as exc:
    BIOBLEND_ERROR: ImportError | None = exc
else:
    BIOBLEND_ERROR = None

REQUEST_LIMIT_SECONDS = 120
GET_ATTEMPTS = 4
GET_RETRY_SECONDS = 2.0
# Requests at a time where there are many
ASKERS = 4
OVER = frozenset(("ok", "error", "deleted", "deleting", "stopped", "skipped", "failed"))
FAILED = frozenset(("error", "failed", "deleted", "deleting", "stopped"))
LONGEST_REASON = 400


class GalaxyError(Exception):
    """What an operator can put right; the message is for them."""


@dataclasses.dataclass(frozen=True)
class Job:
    """A job as the report needs it; times in seconds since the epoch, 0 where nobody measured them."""

    id: str
    tool: str
    state: str
    started: float = 0.0
    ended: float = 0.0
    seconds: float = 0.0


@dataclasses.dataclass(frozen=True)
class Step:
    """How far a step of a workflow is: how many of its jobs are in which state. No states: not scheduled yet."""

    label: str
    states: dict[str, int]

    @property
    def jobs(self) -> int:
        """How many jobs the step has."""
        return sum(self.states.values())

    @property
    def over(self) -> int:
        """How many of them are over."""
        return sum(number for state, number in self.states.items() if state in OVER)

    @property
    def failed(self) -> int:
        """How many of them failed."""
        return sum(number for state, number in self.states.items() if state in FAILED)


class Galaxy:
    """One account of one Galaxy. Every method raises GalaxyError, and nothing else, when Galaxy is the reason."""

    def __init__(self, url: str, key: str, shown_as: str = "") -> None:
        """The address that requests go to, the account's key, and the address to show (a tunnel hides the real one)."""
        if BIOBLEND_ERROR is not None:
            raise GalaxyError(
                "bioblend: is not installed in the Python that runs Ansible; install the collection's requirements.txt"
            ) from BIOBLEND_ERROR
        # BioBlend logs what it raises, and answers may hold more than anybody should read twice.
        logging.getLogger("bioblend").setLevel(logging.CRITICAL)
        self.shown_as = shown_as or url
        self.client = bioblend_galaxy.GalaxyInstance(url, key=key)
        self.client.timeout = REQUEST_LIMIT_SECONDS
        # Reading is tried again: a worker process of Galaxy may be renewed under us.
        self.client.max_get_attempts = GET_ATTEMPTS
        self.client.get_retry_delay = GET_RETRY_SECONDS

    @contextlib.contextmanager
    def asking(self, what: str) -> t.Iterator[None]:
        """Turn errors of the conversation into one sentence."""
        try:
            yield
        except bioblend.ConnectionError as exc:
            raise GalaxyError(self.sentence(what, exc.status_code, exc.body or str(exc))) from exc
        except requests.RequestException as exc:
            raise GalaxyError(self.sentence(what, None, str(exc))) from exc

    def sentence(self, what: str, status: int | None, body: object) -> str:
        """Say what went wrong, and what to do about it."""
        if status is None:
            return (
                f"executor {self.shown_as}: does not answer ({what}); look at its service on the executor:"
                " systemctl status 'galaxy-*'"
            )
        if status in (401, 403):
            return (
                f"executor {self.shown_as}: refuses the API key ({what}); verify needs the administrator's key that"
                " the playbook site made; run site again, or set verify_api_key"
            )
        return f"executor {self.shown_as}: {what}: answered {status}: {message_of(body)}"

    # ------------------------------------------------------------ who and what is there

    def version(self) -> str:
        """Give Galaxy's version."""
        with self.asking("asking for its version"):
            return str(self.client.config.get_version()["version_major"])

    def account(self) -> dict[str, t.Any]:
        """Give the account of the key: id, email. The key must be an administrator's."""
        with self.asking("asking who the key belongs to"):
            account = self.client.config.whoami()
            if not account:
                raise GalaxyError(self.sentence("asking who the key belongs to", 403, ""))
            user: dict[str, t.Any] = self.client.users.get_current_user()
        if not user.get("is_admin"):
            raise GalaxyError(
                f"executor {self.shown_as}: the API key of {user.get('email')} is not an administrator's, and tools are"
                " loaded by administrators; use the key that the playbook site made"
            )
        return user

    def reload_tools(self) -> None:
        """Have Galaxy read its tool directories again."""
        with self.asking("reloading the tools"):
            self.client.config.reload_toolbox()

    def has_tool(self, tool: str) -> bool:
        """Say whether Galaxy knows a tool."""
        answer = self.get(f"tools/{tool}")
        return answer.status_code == 200 and answer.json().get("id") == tool

    def get(self, path: str) -> t.Any:
        """Make one GET request whose answer may be anything."""
        with self.asking(f"asking for {path}"):
            return self.client.make_get_request(f"{self.client.url}/{path}")

    # ------------------------------------------------------------ histories, workflows

    def make_history(self, title: str, annotation: str) -> str:
        """Make a history; give its id."""
        with self.asking("making a history"):
            history = self.client.histories.create_history(title)["id"]
        self.annotate(history, annotation)
        return str(history)

    def annotate(self, history: str, annotation: str) -> None:
        """Write a history's annotation."""
        with self.asking("annotating a history"):
            self.client.histories.update_history(history, annotation=annotation)

    def own_histories(self) -> list[dict[str, t.Any]]:
        """Give id, name and annotation of the account's histories that verify made."""
        with self.asking("listing histories"):
            found = self.client.histories.get_histories()
            ours = [history for history in found if names.run_of(history["name"])]
            return [self.client.histories.show_history(history["id"]) for history in ours]

    def own_workflows(self) -> list[dict[str, t.Any]]:
        """Give id and name of the account's workflows that verify made."""
        with self.asking("listing workflows"):
            found = self.client.workflows.get_workflows()
        return [workflow for workflow in found if names.run_of(workflow["name"])]

    def purge_history(self, history: str) -> None:
        """Take away a history, its datasets and its running jobs."""
        with self.asking("purging a history"):
            for job in self.client.jobs.get_jobs(history_id=history):
                if job["state"] not in OVER:
                    self.client.jobs.cancel_job(job["id"])
            self.client.histories.delete_history(history, purge=True)

    def import_workflow(self, definition: dict[str, t.Any]) -> str:
        """Import a workflow; give its id."""
        with self.asking("importing the workflow"):
            return str(self.client.workflows.import_workflow_dict(definition)["id"])

    def delete_workflow(self, workflow: str) -> None:
        """Take away a workflow."""
        with self.asking("deleting a workflow"):
            self.client.workflows.delete_workflow(workflow)

    # ------------------------------------------------------------ datasets

    def upload_collection(self, history: str, name: str, documents: list[Path]) -> tuple[str, str]:
        """Upload text files as one list collection, byte by byte as they are; give the ids of collection and job."""
        elements = [
            {
                "src": "files",
                "name": path.stem,
                "ext": "txt",
                "dbkey": "?",
                "to_posix_lines": False,
                "space_to_tab": False,
                "auto_decompress": False,
            }
            for path in documents
        ]
        target = {
            "destination": {"type": "hdca"},
            "collection_type": "list",
            "name": name,
            "elements": elements,
        }
        payload: dict[str, t.Any] = {"history_id": history, "targets": json.dumps([target])}
        with contextlib.ExitStack() as opened, self.asking("uploading the documents"):
            for number, path in enumerate(documents):
                stream = attach_file(str(path))
                opened.callback(stream.close)
                payload[f"files_{number}|file_data"] = stream
            answer = self.client.make_post_request(
                f"{self.client.url}/tools/fetch", payload=payload, files_attached=True
            )
        return str(answer["output_collections"][0]["id"]), str(answer["jobs"][0]["id"])

    def elements(self, collection: str) -> dict[str, dict[str, t.Any]]:
        """Give the datasets of a list collection by name: id, state, file_size."""
        with self.asking("reading a collection"):
            shown = self.client.make_get_request(
                f"{self.client.url}/dataset_collections/{collection}", params={"instance_type": "history"}
            )
        if shown.status_code != 200:
            raise GalaxyError(self.sentence("reading a collection", shown.status_code, shown.text))
        return {element["element_identifier"]: element["object"] for element in shown.json()["elements"]}

    def download(self, datasets: dict[str, Path]) -> None:
        """Write the contents of datasets into files: {id: file}."""
        with concurrent.futures.ThreadPoolExecutor(ASKERS) as askers:
            for _done in askers.map(self._download, datasets.items()):
                pass

    def _download(self, wanted: tuple[str, Path]) -> None:
        dataset, target = wanted
        with self.asking("downloading a result"):
            answer = self.client.make_get_request(f"{self.client.url}/datasets/{dataset}/display", params={"raw": True})
        if answer.status_code != 200:
            raise GalaxyError(self.sentence("downloading a result", answer.status_code, answer.text))
        target.write_bytes(answer.content)

    # ------------------------------------------------------------ jobs

    def run_tool(self, history: str, tool: str, inputs: dict[str, t.Any]) -> str:
        """Submit a job; give its id."""
        with self.asking(f"running {tool}"):
            return str(self.client.tools.run_tool(history, tool, inputs)["jobs"][0]["id"])

    def job_state(self, job: str) -> str:
        """Give the state of a job."""
        with self.asking("asking for a job's state"):
            return str(self.client.jobs.get_state(job))

    def job_states(self, history: str) -> dict[str, str]:
        """Give the states of all jobs of a history by id."""
        with self.asking("listing jobs"):
            return {job["id"]: job["state"] for job in self.client.jobs.get_jobs(history_id=history, limit=1000)}

    def jobs(self, history: str) -> list[Job]:
        """Give the jobs of a history with what Galaxy measured of them, in the order they were made."""
        with self.asking("listing jobs"), concurrent.futures.ThreadPoolExecutor(ASKERS) as askers:
            listed = self.client.jobs.get_jobs(history_id=history, limit=1000)
            return list(askers.map(self._measured, reversed(listed)))

    def _measured(self, job: dict[str, t.Any]) -> Job:
        values: dict[str, float] = {}
        for metric in self.client.jobs.get_metrics(job["id"]):
            with contextlib.suppress(ValueError, TypeError):
                values[metric["name"]] = float(metric["raw_value"])
        return Job(
            id=job["id"],
            tool=job["tool_id"],
            state=job["state"],
            started=values.get("start_epoch", 0.0),
            ended=values.get("end_epoch", 0.0),
            seconds=values.get("runtime_seconds", 0.0),
        )

    def reasons(self, history: str, most: int = 3) -> list[str]:
        """Say why jobs of a history failed: one line for each different reason, so many at most."""
        found: dict[str, list[str]] = {}
        with self.asking("asking why jobs failed"):
            for job in self.client.jobs.get_jobs(history_id=history, limit=1000):
                if job["state"] in FAILED:
                    shown = self.client.jobs.show_job(job["id"], full_details=True)
                    found.setdefault(reason_of(shown, self._dataset_words(shown)), []).append(job["tool_id"])
        return [
            f"{count_of(tools)}: {reason}" for reason, tools in sorted(found.items(), key=lambda entry: -len(entry[1]))
        ][:most]

    def _dataset_words(self, job: dict[str, t.Any]) -> str:
        """Give what Galaxy wrote into a failed job's first result: it is where it says why a job never ran."""
        for output in (job.get("outputs") or {}).values():
            answer = self.client.make_get_request(f"{self.client.url}/datasets/{output['id']}")
            if answer.status_code == 200:
                return str(answer.json().get("misc_info") or "")
        return ""

    # ------------------------------------------------------------ invocations

    def invoke(self, workflow: str, history: str, collection: str) -> str:
        """Run a workflow whose only input is a collection; give the id of the invocation."""
        with self.asking("starting the workflow"):
            started = self.client.workflows.invoke_workflow(
                workflow, inputs={"0": {"id": collection, "src": "hdca"}}, history_id=history, inputs_by="step_index"
            )
        return str(started["id"])

    def invocation(self, invocation: str) -> dict[str, t.Any]:
        """Give state, steps, messages and outputs of an invocation."""
        with self.asking("asking for the workflow's state"):
            shown: dict[str, t.Any] = self.client.invocations.show_invocation(invocation)
        return shown

    def steps(self, shown: dict[str, t.Any]) -> list[Step]:
        """Give how far each step of an invocation that has a tool is, in the workflow's order."""
        with self.asking("asking for the workflow's jobs"):
            summaries = {
                summary["id"]: summary["states"]
                for summary in self.client.invocations.get_invocation_step_jobs_summary(shown["id"])
            }
        steps = []
        for step in sorted(shown["steps"], key=lambda entry: entry["order_index"]):
            label = step.get("workflow_step_label") or str(step["order_index"])
            key = step.get("implicit_collection_jobs_id") or step.get("job_id")
            if step["order_index"] > 0:
                steps.append(Step(label, {str(state): int(number) for state, number in summaries.get(key, {}).items()}))
        return steps

    def cancel(self, invocation: str) -> None:
        """Stop an invocation."""
        with self.asking("stopping the workflow"):
            self.client.invocations.cancel_invocation(invocation)


def message_of(body: object) -> str:
    """Give the sentence in an answer of Galaxy, which is JSON with err_msg, or whatever it sent."""
    text = body.decode(errors="replace") if isinstance(body, bytes) else str(body)
    with contextlib.suppress(ValueError):
        content = json.loads(text)
        if isinstance(content, dict) and content.get("err_msg"):
            text = str(content["err_msg"])
    return " ".join(text.split())[:LONGEST_REASON]


def reason_of(job: dict[str, t.Any], dataset_words: str = "") -> str:
    """Say why a job failed, from its full details: the last lines it wrote, else what Galaxy says of it."""
    for name in ("tool_stderr", "stderr", "job_stderr"):
        lines = [line.strip() for line in str(job.get(name) or "").splitlines() if line.strip()]
        if lines:
            reason = " ".join(lines[-3:])
            break
    else:
        words = [str(entry.get("desc") or "") for entry in job.get("job_messages") or [] if isinstance(entry, dict)]
        reason = " ".join(word for word in words if word) or dataset_words
    code = job.get("exit_code")
    ended = f"exit code {code}: " if code not in (None, 0) else ""
    return f"{ended}{' '.join(reason.split()) or 'Galaxy gives no reason; look at its log'}"[:LONGEST_REASON]


def count_of(tools: list[str]) -> str:
    """Say how many jobs of which tools, by the last part of their ids: `count (20 jobs)`."""
    short = sorted({tool.rsplit("_", 1)[-1] for tool in tools})
    return f"{', '.join(short)} ({len(tools)} job{'s' if len(tools) > 1 else ''})"
