"""What verify does on a whole site: the workflow, its check, what stays, and what it says when something is broken."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

import pytest
import requests
from bioblend.galaxy import GalaxyInstance
from testinfra.host import Host

testinfra_hosts = ["ansible://executor"]

SCENARIO = Path(__file__).parent
SECONDS = 900
QUICK = {"verify_parts": ["latency"], "verify_latency_jobs": 1}


def verify(*, expected: int = 0, **variables: object) -> str:
    """Run the playbook as an operator does; give what it said."""
    command = ["ansible-playbook", "-i", str(SCENARIO / "verify.fleet.yml"), "omtd.workflow.verify"]
    password = SCENARIO / ".vault-password"
    command += ["--vault-password-file", str(password)] if password.exists() else []
    command += ["-e", json.dumps(variables)] if variables else []
    done = subprocess.run(
        command,
        cwd=SCENARIO,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
        env={**os.environ, "ANSIBLE_FORCE_COLOR": "0", "NO_COLOR": "1"},
    )
    assert done.returncode == expected, done.stdout[-6000:]
    return done.stdout


def report_of(said: str) -> Path:
    """Give the report that a run wrote."""
    found = re.findall(r"\S+/reports/\S+/report\.md", said)
    assert found, said[-3000:]
    return Path(found[-1].strip("\"'()"))


@pytest.fixture(scope="module")
def good() -> Iterator[tuple[str, Path]]:
    said = verify(verify_parts=["workflow", "latency"])
    yield said, report_of(said)


def galaxy(host: Host) -> GalaxyInstance:
    """Give the executor's Galaxy with its administrator's key."""
    with host.sudo():
        key = host.file("/etc/galaxy/executor/admin.key").content_string.strip()
    return GalaxyInstance(f"http://{host.ansible.get_variables()['fleet_private_address']}:8080", key)


def leftovers(host: Host) -> list[str]:
    """Name what runs left on the executor, in its tools and in its Galaxy."""
    with host.sudo():
        tools: list[str] = host.check_output("find /srv/omtd/tools -name 'omtd-verify-*'").split()
    client = galaxy(host)
    names = [entry["name"] for entry in [*client.histories.get_histories(), *client.workflows.get_workflows()]]
    loaded = [tool["id"] for tool in client.tools.get_tools() if tool["id"].startswith("omtd_verify_")]
    return tools + loaded + [name for name in names if "omtd-verify" in name]


def tags(host: Host) -> list[str]:
    """Give the tags of the component that the registry offers."""
    variables = host.ansible.get_variables()
    answer = requests.get(
        f"https://{variables['fleet_private_address']}:5000/v2/omtd-verify/textmining/tags/list",
        auth=("push", variables["vault_registry_push_password"]),
        verify=str(SCENARIO / "pki" / "ca.crt"),
        timeout=30,
    )
    return (answer.json().get("tags") or []) if answer.status_code == 200 else []


def test_the_result_is_the_local_one_byte_by_byte(good: tuple[str, Path]) -> None:
    said, report = good

    assert "all 41 result files are byte for byte those of the local computation" in said
    assert report.read_text().startswith("# The workflow ran, and its result is right")


def test_the_operator_sees_how_far_it_is(good: tuple[str, Path]) -> None:
    assert re.search(r"\d+ s  tokenise \d+/(\d+|\?)", good[0])
    last = [line for line in good[0].splitlines() if "merge 1/1" in line][-1]
    assert all(f"{step} 20/20" in last for step in ("tokenise", "count", "keywords"))


def test_the_report_has_the_keywords_of_the_corpus_and_pictures(good: tuple[str, Path]) -> None:
    text = good[1].read_text()

    assert "| unicode |" in text
    assert "| regular expression |" in text
    for picture in ("keywords.svg", "jobs.svg"):
        assert f"({picture})" in text
        ElementTree.parse(good[1].parent / picture)  # noqa: S314 - our own file


def test_nothing_of_a_run_is_left_and_the_image_is_no_longer_offered(good: tuple[str, Path], host: Host) -> None:
    assert leftovers(host) == []
    assert tags(host) == []


def test_an_image_that_does_not_exist_is_named_as_the_reason(host: Host) -> None:
    image = f"{host.ansible.get_variables()['inventory_hostname']}:5000/omtd-verify/nothing:1"
    said = verify(expected=2, verify_image=image, **QUICK)

    assert "omtd-verify/nothing:1" in report_of(said).read_text().split("## ")[0]
    assert leftovers(host) == []


def test_a_wrong_key_is_one_clear_error(host: Host) -> None:
    said = verify(expected=2, verify_api_key="0123456789abcdef0123456789abcdef", **QUICK)

    assert "refuses the API key" in report_of(said).read_text()
    assert leftovers(host) == []


def test_a_registry_that_is_down_is_one_clear_error_and_a_retry_works(host: Host) -> None:
    with host.sudo():
        host.check_output("systemctl stop omtd-registry-proxy")
        try:
            said = verify(expected=2, **QUICK)
        finally:
            host.check_output("systemctl start omtd-registry-proxy")

    assert "the registry does not answer" in report_of(said).read_text()
    assert leftovers(host) == []
    verify(**QUICK)


def test_what_an_interrupted_run_left_is_taken_away(host: Host) -> None:
    old = "20200101t000000z-dead"
    galaxy(host).histories.create_history(f"omtd-verify {old}")
    with host.sudo():
        folder = f"/srv/omtd/tools/normal/omtd-verify-{old}"
        host.check_output("mkdir -p %s && touch -d '1 hour ago' %s", folder, folder)
    assert len(leftovers(host)) == 2
    said = verify(**QUICK)

    assert leftovers(host) == []
    assert old in report_of(said).read_text()
