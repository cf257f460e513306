"""What is said of Galaxy's errors and of jobs that failed, with a server that gives such answers."""

from __future__ import annotations

import http.server
import json
import threading
from collections.abc import Iterator

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.verify import platform

pytest.importorskip("bioblend")


class Answers(http.server.BaseHTTPRequestHandler):
    """Gives every request the same status and content."""

    status = 200
    content: object = {}

    def log_message(self, *_words: object) -> None:
        pass

    def do_GET(self) -> None:
        body = json.dumps(self.content).encode()
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_PUT = do_GET  # noqa: N815


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "GET_ATTEMPTS", 1)


@pytest.fixture
def server() -> Iterator[tuple[str, type[Answers]]]:
    handler = type("Handler", (Answers,), {})
    running = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=running.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{running.server_port}", handler
    running.shutdown()
    running.server_close()


@pytest.mark.parametrize("status", [401, 403])
def test_a_wrong_key_is_one_sentence_with_a_way_out(server: tuple[str, type[Answers]], status: int) -> None:
    url, answers = server
    answers.status, answers.content = status, {"err_msg": "Provided API key is not valid."}

    with pytest.raises(platform.GalaxyError, match=r"http://executor: refuses the API key .*run site again") as caught:
        platform.Galaxy(url, "wrong", "http://executor").account()
    assert "wrong" not in str(caught.value)


def test_the_key_of_somebody_who_is_no_administrator_is_refused(server: tuple[str, type[Answers]]) -> None:
    url, answers = server
    answers.content = {"id": "1", "email": "user@example.org", "is_admin": False}

    with pytest.raises(platform.GalaxyError, match=r"API key of user@example\.org is not an administrator's"):
        platform.Galaxy(url, "key").account()


def test_an_executor_that_is_down_is_one_sentence_with_a_way_out() -> None:
    with pytest.raises(platform.GalaxyError, match=r"127\.0\.0\.1:1: does not answer .*systemctl status"):
        platform.Galaxy("http://127.0.0.1:1", "key").version()


def test_what_galaxy_refuses_is_told_in_its_own_words(server: tuple[str, type[Answers]]) -> None:
    url, answers = server
    answers.status, answers.content = 400, {"err_msg": "Workflow is broken", "err_code": 400008}

    with pytest.raises(platform.GalaxyError, match="importing the workflow: answered 400: Workflow is broken"):
        platform.Galaxy(url, "key").import_workflow({})


@pytest.mark.parametrize(
    ("job", "words", "reason"),
    [
        ({"exit_code": 125, "tool_stderr": "a\n\nimage: not found\n"}, "", "exit code 125: a image: not found"),
        ({"exit_code": 0, "stderr": "late error"}, "", "late error"),
        ({"job_messages": [{"desc": "Fatal error: Exit code 1 ()"}]}, "x", "Fatal error: Exit code 1 ()"),
        ({}, "Job cannot be placed", "Job cannot be placed"),
        ({}, "", "Galaxy gives no reason; look at its log"),
    ],
)
def test_the_reason_of_a_failed_job_is_its_last_words_else_galaxys(
    job: dict[str, object], words: str, reason: str
) -> None:
    assert platform.reason_of(job, words) == reason


def test_a_reason_is_never_longer_than_a_paragraph() -> None:
    assert len(platform.reason_of({"tool_stderr": "x" * 10_000})) == platform.LONGEST_REASON
