"""What the executor does with jobs: real containers on a real node, asked over REST as a trusted service asks."""

from __future__ import annotations

import json
import shlex
import time
from collections import Counter
from collections.abc import Iterator

import pytest
from bioblend.galaxy import GalaxyInstance
from testinfra.host import Host

testinfra_hosts = ["ansible://executor"]

SECONDS = 180
TOOL = """<tool id="{id}" name="{id}" version="1.0" profile="24.0">
  <requirements><container type="docker">{image}</container></requirements>
  <command detect_errors="exit_code"><![CDATA[
    awk '{{print \\$1 "\\t" NR}}' '$input' > '$output' && id && sleep $seconds && exit $code
  ]]></command>
  <inputs>
    <param name="input" type="data" format="txt"/>
    <param name="seconds" type="integer" value="0"/>
    <param name="code" type="integer" value="0"/>
  </inputs>
  <outputs><data name="output" format="tabular"/></outputs>
  <help>Numbers the lines of a text.</help>
</tool>
"""


class Site:
    """The site of the scenario: its hosts, and its executor over REST."""

    def __init__(self, executor: Host) -> None:
        self.executor = executor
        self.variables = executor.ansible.get_variables()
        groups = self.variables["groups"]
        self.worker = executor.backend.ansible_runner.get_host(groups["cluster_nodes"][0])
        self.registry = f"{groups['docker_registry'][0]}:5000"
        self.image = f"{self.registry}/scenario/busybox:1"
        with executor.sudo():
            self.key = executor.file("/etc/galaxy/executor/admin.key").content_string.strip()
        self.url = f"http://{self.variables['fleet_private_address']}:8080"
        self.galaxy = GalaxyInstance(self.url, self.key)

    def upload(self, history: str, *texts: str) -> list[str]:
        """Upload texts into a history: the ids of the datasets, when they are there."""
        elements = [
            {"src": "pasted", "paste_content": text, "name": f"text {n}", "ext": "txt"} for n, text in enumerate(texts)
        ]
        answer = self.galaxy.make_post_request(
            f"{self.url}/api/tools/fetch",
            payload={
                "history_id": history,
                "targets": json.dumps([{"destination": {"type": "hdas"}, "elements": elements}]),
            },
        )
        assert self.ended(answer["jobs"][0]["id"])["state"] == "ok"
        return [output["id"] for output in answer["outputs"]]

    def submit(self, history: str, tool: str, dataset: str, **inputs: int) -> tuple[str, str]:
        """Submit a job: its id and that of its output."""
        answer = self.galaxy.tools.run_tool(history, tool, {"input": {"src": "hda", "id": dataset}, **inputs})
        return answer["jobs"][0]["id"], answer["outputs"][0]["id"]

    def ended(self, job: str) -> dict:
        """Wait until a job has ended, and describe it."""
        return self.waited(job, {"ok", "error", "deleted"})

    def waited(self, job: str, states: set[str]) -> dict:
        """Wait until a job is in one of the states, and describe it."""
        for _attempt in range(SECONDS * 4):
            found = self.galaxy.jobs.show_job(job, full_details=True)
            if found["state"] in states:
                return found
            time.sleep(0.25)
        raise AssertionError(f"job {job} is {found['state']} after {SECONDS} s, not {states}")

    def write_tool(self, path: str, tool: str, image: str) -> None:
        """Write a wrapper where the site keeps them."""
        text = shlex.quote(TOOL.format(id=tool, image=image))
        with self.executor.sudo():
            self.executor.check_output(f"printf %s {text} > {self.variables['site_tools_dir']}/{path}")
        for _attempt in range(60):
            if tool in {found["id"] for found in self.galaxy.tools.get_tools()}:
                return
            time.sleep(0.5)
        raise AssertionError(f"tool {tool} did not appear")

    def slurm(self, command: str) -> str:
        """Run a command of Slurm as the account of jobs."""
        with self.executor.sudo(self.variables["site_job_user"]):
            return self.executor.check_output(command)


@pytest.fixture(scope="module")
def site(host: Host) -> Site:
    """Give the site, with a small image in its registry and tools that use it."""
    site = Site(host)
    password = shlex.quote(site.variables["vault_registry_push_password"])
    with site.worker.sudo():
        site.worker.check_output("apt-get install -q -y busybox-static")
        made = site.worker.run(
            "set -e; d=$(mktemp -d); mkdir $d/bin; cp /bin/busybox $d/bin/; "
            "for a in sh awk cat id sleep; do ln -s busybox $d/bin/$a; done; "
            f"tar -C $d -c . | docker import - {site.image}; export DOCKER_CONFIG=$d; "
            f"printf %s {password} | docker login -u push --password-stdin {site.registry}; "
            f"docker push -q {site.image}; rm -r $d"
        )
        assert made.rc == 0, made.stderr
    site.write_tool("normal/lines.xml", "lines", site.image)
    site.write_tool("heavyweight/heavy_lines.xml", "heavy_lines", site.image)
    site.write_tool("normal/nowhere.xml", "nowhere", f"{site.registry}/scenario/nowhere:1")
    return site


@pytest.fixture
def history(site: Site) -> Iterator[str]:
    """Give a history, and take it away afterwards."""
    history = site.galaxy.histories.create_history("scenario")["id"]
    yield history
    site.galaxy.histories.delete_history(history, purge=True)


def test_uploads_get_their_metadata(site: Site, history: str) -> None:
    datasets = site.upload(history, *("line\n" * lines for lines in range(1, 11)))
    assert [site.galaxy.datasets.show_dataset(dataset)["metadata_data_lines"] for dataset in datasets] == list(
        range(1, 11)
    )


def test_a_component_runs_in_its_container_on_a_node_as_the_account_of_jobs(site: Site, history: str) -> None:
    (text,) = site.upload(history, "a b\nc d\n")
    job, output = site.submit(history, "lines", text)
    ended = site.ended(job)
    assert ended["state"] == "ok", ended["tool_stderr"]
    assert f"uid={site.variables['site_job_uid']} " in ended["tool_stdout"]
    dataset = site.galaxy.datasets.show_dataset(output)
    assert (dataset["metadata_data_lines"], dataset["metadata_columns"]) == (2, 2)
    assert "<td>c</td><td>2</td>" in dataset["peek"]
    assert site.galaxy.datasets.download_dataset(output, require_ok_state=True) == b"a\t1\nc\t2\n"


def test_the_directory_of_a_wrapper_chooses_the_partition(site: Site, history: str) -> None:
    (text,) = site.upload(history, "a\n")
    partitions = {}
    for tool in ("lines", "heavy_lines"):
        ended = site.ended(site.submit(history, tool, text)[0])
        partitions[tool] = site.slurm(f"squeue --states=all -h -o %P -j {ended['external_id']}")
    assert partitions == {"lines": "normal", "heavy_lines": "heavyweight"}


def test_a_tool_whose_image_does_not_exist_ends_in_error_and_says_so(site: Site, history: str) -> None:
    (text,) = site.upload(history, "a\n")
    job, output = site.submit(history, "nowhere", text)
    assert site.ended(job)["state"] == "error"
    dataset = site.galaxy.datasets.show_dataset(output)
    assert dataset["state"] == "error"
    assert "scenario/nowhere:1: does not exist in the registry" in dataset["misc_info"]


def test_a_tool_that_fails_keeps_its_exit_code(site: Site, history: str) -> None:
    (text,) = site.upload(history, "a\n")
    ended = site.ended(site.submit(history, "lines", text, code=3)[0])
    assert (ended["state"], ended["exit_code"]) == ("error", 3)


def test_a_job_that_slurm_cancels_is_an_error_with_its_reason_and_no_empty_result(site: Site, history: str) -> None:
    (text,) = site.upload(history, "a\n")
    job, output = site.submit(history, "lines", text, seconds=120)
    running = site.waited(job, {"running"})
    site.slurm(f"scancel {running['external_id']}")
    assert site.ended(job)["state"] == "error"
    assert "it was cancelled in Slurm" in site.galaxy.datasets.show_dataset(output)["misc_info"]


def test_deleting_a_job_ends_its_container(site: Site, history: str) -> None:
    (text,) = site.upload(history, "a\n")
    job, _output = site.submit(history, "lines", text, seconds=120)
    site.waited(job, {"running"})

    def containers() -> str:
        with site.worker.sudo():
            return site.worker.check_output("docker ps -q --filter label=omtd.job")

    for _attempt in range(60):
        if containers():
            break
        time.sleep(0.5)
    assert containers()
    site.galaxy.jobs.cancel_job(job)
    for _attempt in range(60):
        if not containers():
            break
        time.sleep(0.5)
    assert containers() == ""


def test_secrets_of_galaxy_do_not_travel_to_the_nodes(site: Site, history: str) -> None:
    (text,) = site.upload(history, "a\n")
    job, _output = site.submit(history, "lines", text, seconds=10)
    site.waited(job, {"running"})
    with site.worker.sudo():
        environments = site.worker.check_output("cat /proc/[0-9]*/environ 2>/dev/null | tr '\\0' '\\n' | sort -u; true")
    assert "SLURM_JOB_ID" in environments
    assert "GALAXY_CONFIG" not in environments
    site.ended(job)


def test_nodes_have_no_galaxy(site: Site) -> None:
    with site.worker.sudo():
        assert site.worker.run("find / -xdev -type d -path '*/site-packages/galaxy' | grep .").rc != 0


def test_a_job_survives_a_restart_of_galaxy(site: Site, history: str) -> None:
    (text,) = site.upload(history, "a\nb\n")
    job, output = site.submit(history, "lines", text, seconds=20)
    site.waited(job, {"running"})
    with site.executor.sudo():
        site.executor.check_output("systemctl restart galaxy-executor.target")
    for _attempt in range(SECONDS):
        try:
            site.galaxy.config.get_version()
            break
        except Exception:  # noqa: BLE001 whatever a starting server does
            time.sleep(1)
    assert site.ended(job)["state"] == "ok"
    assert site.galaxy.datasets.show_dataset(output)["metadata_data_lines"] == 2


def test_fifty_parallel_jobs_lose_none(site: Site, history: str) -> None:
    texts = site.upload(history, *("a b\n" * lines for lines in range(1, 51)))
    jobs = [site.submit(history, "lines", text) for text in texts]
    assert Counter(site.ended(job)["state"] for job, _output in jobs) == {"ok": 50}
    lines = [site.galaxy.datasets.show_dataset(output)["metadata_data_lines"] for _job, output in jobs]
    assert lines == list(range(1, 51))


def test_strangers_get_nothing(site: Site) -> None:
    script = (
        "import sys, urllib.request as r, urllib.error as e\n"
        "for request in (r.Request(sys.argv[1]), r.Request(sys.argv[1], data=b'{}', method='POST')):\n"
        "    try: print(r.urlopen(request).status)\n"
        "    except e.HTTPError as error: print(error.code)\n"
    )
    codes = site.executor.check_output(f"python3 -c {shlex.quote(script)} {site.url}/api/users").split()
    assert len(codes) == 2
    assert all(400 <= int(code) < 500 for code in codes)


def test_the_administrators_key_is_roots(site: Site) -> None:
    file = site.executor.file("/etc/galaxy/executor/admin.key")
    with site.executor.sudo():
        assert (file.user, oct(file.mode)) == ("root", "0o600")
    assert site.galaxy.users.get_current_user()["is_admin"]
