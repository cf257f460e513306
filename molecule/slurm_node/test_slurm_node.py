"""Real jobs in real containers: that they run, what they cannot do, and that nothing is lost or left behind."""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Iterator
from pathlib import PurePosixPath

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://cluster_master"]

LAUNCHER = "sudo -n /usr/local/sbin/component-launcher"
FOLDER = PurePosixPath("/srv/omtd/database/scenario")


def until(what: Callable[[], object], seconds: int = 90) -> bool:
    """Wait until something holds, so many seconds at most."""
    end = time.monotonic() + seconds
    while not what():
        if time.monotonic() > end:
            return False
        time.sleep(0.3)
    return True


@pytest.fixture(scope="module")
def variables(host: Host) -> dict:
    """Give the controller's inventory variables."""
    return host.ansible.get_variables()


@pytest.fixture(scope="module")
def worker(host: Host, variables: dict) -> Host:
    """Give the normal node."""
    return host.backend.ansible_runner.get_host(variables["groups"]["normal"][0])


@pytest.fixture(scope="module")
def worker_name(variables: dict) -> str:
    """Give the normal node's name."""
    return variables["groups"]["normal"][0]


@pytest.fixture(scope="module")
def registry(host: Host, variables: dict) -> str:
    """Give the registry as images name it, with a small image `busybox:1` pushed to it."""
    name = f"{variables['groups']['docker_registry'][0]}:5000"
    with host.sudo():
        host.check_output("command -v busybox >/dev/null || apt-get install -yqq busybox-static >/dev/null")
        pushed = host.run(
            "set -e; d=$(mktemp -d); mkdir -p $d/root/bin $d/root/tmp; chmod 1777 $d/root/tmp;"
            " cp /bin/busybox $d/root/bin/;"
            " for n in $(busybox --list); do [ -e $d/root/bin/$n ] || ln -s busybox $d/root/bin/$n; done;"
            f" tar -C $d/root -c . | docker import - {name}/busybox:1 >/dev/null;"
            f" printf %s {shlex.quote(variables['vault_registry_push_password'])} |"
            f" docker --config $d login -u push --password-stdin {name};"
            f" docker --config $d push -q {name}/busybox:1; rm -rf $d"
        )
    assert pushed.rc == 0, pushed.stderr
    return name


@pytest.fixture(scope="module")
def image(registry: str) -> str:
    """Give the small image."""
    return f"{registry}/busybox:1"


class Cluster:
    """What a Galaxy would do: submit jobs as their account, and look at what became of them."""

    def __init__(self, host: Host) -> None:
        self.host = host

    def submit(self, script: str, options: str = "") -> str:
        """Submit a job that runs a script: its number. What it says goes to FOLDER/NUMBER.out."""
        command = f"cd {FOLDER} && sbatch --parsable {options} --output={FOLDER}/%j.out --wrap={shlex.quote(script)}"
        with self.host.sudo("galaxy"):
            return self.host.check_output(command)

    def says(self, job: str, what: str) -> str:
        """Give a field of accounting: state, exitcode."""
        with self.host.sudo():
            command = f"sacct --allocations --noheader --parsable2 --jobs {job} --format {what}"
            return self.host.run(command).stdout.strip()

    def state(self, job: str) -> str:
        """Give the state in accounting."""
        return self.says(job, "state")

    def queued(self, jobs: str) -> str:
        """Give the states of jobs that are in the queue."""
        return self.host.run(f"squeue --noheader --jobs {jobs} --format %T").stdout.strip()

    def output(self, job: str) -> str:
        """Give what a job said."""
        with self.host.sudo():
            return self.host.run(f"cat {FOLDER}/{job}.out").stdout

    def run(self, script: str, options: str = "", seconds: int = 90) -> tuple[str, str]:
        """Run a job to its end: its state, and what it said."""
        job = self.submit(script, options)
        over = ("COMPLETED", "FAILED", "CANCELLED", "TIMEOUT", "NODE_FAIL", "OUT_OF_MEMORY")
        assert until(lambda: self.state(job).startswith(over), seconds), (self.state(job), self.output(job))
        return self.state(job), self.output(job)

    def node_state(self, name: str) -> str:
        """Give the state of a node and the reason, without the mark of a node that has not answered yet."""
        shown = self.host.check_output(f"sinfo --noheader --nodes {name} --format '%T|%E'").splitlines()[0]
        return shown.replace("*|", "|", 1)


@pytest.fixture(scope="module")
def cluster(host: Host) -> Iterator[Cluster]:
    """Give the cluster, with a folder for jobs on the shared directory."""
    with host.sudo():
        host.check_output(f"install -d -o galaxy -g galaxy {FOLDER}")
    yield Cluster(host)
    with host.sudo():
        host.check_output(f"rm -rf {FOLDER}")


def containers(node: Host) -> list[str]:
    """Give the containers of jobs on a node, running or not."""
    with node.sudo():
        return node.check_output("docker ps --all --quiet --filter label=omtd.job").split()


def launches(node: Host) -> str:
    """Give what is mounted for containers of jobs."""
    return node.check_output("grep component-launcher /proc/mounts || true")


# ---------------------------------------------------------------- jobs


@pytest.mark.parametrize("partition", ["normal", "heavyweight"])
def test_a_job_runs_where_it_was_sent(cluster: Cluster, variables: dict, partition: str) -> None:
    state, output = cluster.run("hostname", f"--partition {partition}")
    assert state == "COMPLETED"
    assert output.strip() == variables["groups"][partition][0]


def test_jobs_go_to_normal_nodes_by_default(cluster: Cluster, worker_name: str) -> None:
    assert cluster.run("hostname")[1].strip() == worker_name


def test_a_trivial_job_starts_within_seconds(cluster: Cluster) -> None:
    started = time.monotonic()
    assert cluster.run("true")[0] == "COMPLETED"
    print(f"submit to COMPLETED in accounting: {time.monotonic() - started:.2f} s")


def test_a_component_reads_and_writes_the_jobs_folder(cluster: Cluster, host: Host, image: str) -> None:
    state, output = cluster.run(
        f"mkdir -p {FOLDER}/one/out && echo text > {FOLDER}/one/in && "
        f"{LAUNCHER} run -v {FOLDER}/one:{FOLDER}/one:ro -v {FOLDER}/one/out:{FOLDER}/one/out:rw --rm"
        f" -w {FOLDER}/one {image} sh -c 'tr a-z A-Z < in > out/result; touch in2; id -u; id -g'"
    )
    assert state == "COMPLETED"
    assert "Read-only file system" in output
    assert output.splitlines()[-2:] == ["7100", "7100"]
    result = host.file(f"{FOLDER}/one/out/result")
    with host.sudo():
        assert result.content_string == "TEXT\n"
        assert result.uid == 7100


def test_the_exit_code_of_a_component_arrives(cluster: Cluster, image: str) -> None:
    job_state, _output = cluster.run(f"{LAUNCHER} run {image} sh -c 'exit 42'")
    assert job_state == "FAILED"
    _state, output = cluster.run(f"{LAUNCHER} run {image} sh -c 'exit 42'; echo code $?")
    assert output.strip() == "code 42"


def test_what_a_component_says_goes_to_the_job_and_not_to_dockers_logs(cluster: Cluster, image: str) -> None:
    _state, output = cluster.run(
        f"{LAUNCHER} run {image} sh -c 'echo out; echo err >&2' 2>{FOLDER}/err; echo; cat {FOLDER}/err"
    )
    assert output.split() == ["out", "err"]


def test_fifty_small_jobs_end_and_none_is_lost(cluster: Cluster, host: Host, image: str) -> None:
    started = time.monotonic()
    script = f"{LAUNCHER} run -v {FOLDER}:{FOLDER} {image} touch {FOLDER}/many-$SLURM_JOB_ID"
    with host.sudo("galaxy"):
        jobs = host.check_output(
            f"cd {FOLDER} && for i in $(seq 50); do sbatch --parsable --mem 64 --output=/dev/null"
            f" --wrap={shlex.quote(script)}; done"
        ).split()
    assert len(jobs) == 50
    assert until(lambda: cluster.queued(",".join(jobs)) == "", 240)
    assert until(lambda: cluster.state(",".join(jobs)).split() == ["COMPLETED"] * 50)
    print(f"50 jobs with a container each: {time.monotonic() - started:.0f} s")
    with host.sudo():
        assert int(host.check_output(f"ls {FOLDER} | grep -c many-")) == 50


# ---------------------------------------------------------------- what a component cannot do


def test_a_component_has_no_capabilities_and_no_network(cluster: Cluster, image: str) -> None:
    _state, output = cluster.run(
        f"{LAUNCHER} run {image} sh -c 'grep -E \"Cap(Eff|Bnd)|NoNewPrivs\" /proc/self/status; ls /sys/class/net'"
    )
    fields = dict(line.split(":\t") for line in output.splitlines() if ":" in line)
    assert fields == {"CapEff": "0" * 16, "CapBnd": "0" * 16, "NoNewPrivs": "1"}
    assert output.splitlines()[-1] == "lo"


def test_a_component_has_no_more_memory_than_its_job(cluster: Cluster, image: str) -> None:
    _state, output = cluster.run(
        f"{LAUNCHER} run -m 700m {image} sh -c "
        "'cat /sys/fs/cgroup/memory/memory.limit_in_bytes /sys/fs/cgroup/memory.max 2>/dev/null'",
        "--mem 100",
    )
    assert output.split() == [str(100 * 1024**2)]


def test_a_component_that_takes_more_memory_dies_and_the_node_lives(
    cluster: Cluster, image: str, worker_name: str
) -> None:
    _state, output = cluster.run(
        f"{LAUNCHER} run {image} sh -c 'head -c 300m /dev/zero | tail'; echo code $?", "--mem 64"
    )
    assert "code 137" in output
    assert cluster.node_state(worker_name).startswith(("idle", "mixed"))


@pytest.mark.parametrize(
    "arguments",
    [
        "run -v /etc:/etc IMAGE cat /etc/shadow",
        "run -v /var/run/docker.sock:/s IMAGE true",
        f"run -v {FOLDER}/../../../../root:/r IMAGE true",
        "run --privileged IMAGE true",
        "run --user 0:0 IMAGE true",
        "run --net host IMAGE true",
        "run --pid host IMAGE true",
        "run --volumes-from other IMAGE true",
        "run busybox true",
        "exec other sh",
        "build .",
        "remove-leftovers 1",
    ],
)
def test_the_launcher_refuses_what_would_open_the_node(cluster: Cluster, image: str, arguments: str) -> None:
    _state, output = cluster.run(f"{LAUNCHER} {arguments.replace('IMAGE', image)}; echo code $?")
    assert output.startswith("component-launcher: ")
    assert output.splitlines()[-1] == "code 125"


def test_a_link_out_of_the_shared_directory_is_refused(cluster: Cluster, image: str) -> None:
    _state, output = cluster.run(f"ln -sfn /etc {FOLDER}/link; {LAUNCHER} run -v {FOLDER}/link:/x {image} ls /x")
    assert "in truth /etc" in output
    assert "passwd" not in output


def test_the_account_of_jobs_can_do_nothing_else_as_root(worker: Host) -> None:
    with worker.sudo("galaxy"):
        assert worker.run("sudo -n id").rc != 0
        assert worker.run("sudo -n docker ps").rc != 0
        assert worker.run("docker ps").rc != 0
        assert worker.run("cat /root/.docker/config.json").rc != 0


def test_outside_of_a_job_nothing_is_started(worker: Host, image: str) -> None:
    with worker.sudo("galaxy"):
        answer = worker.run(f"SLURM_JOB_ID=1 {LAUNCHER} run {image} true")
    assert answer.rc == 125
    assert "not in a Slurm job" in answer.stderr


def test_a_job_reaches_no_container_but_its_own(cluster: Cluster, worker: Host, image: str) -> None:
    victim = cluster.submit(f"{LAUNCHER} run --name victim {image} sleep 300", "--mem 64")
    assert until(lambda: containers(worker))
    _state, output = cluster.run(f"for v in kill stop inspect; do {LAUNCHER} $v victim; done", "--mem 64")
    assert output.count("has no such container") == 3
    assert len(containers(worker)) == 1
    with cluster.host.sudo():
        cluster.host.check_output(f"scancel {victim}")
    assert until(lambda: not containers(worker))


# ---------------------------------------------------------------- how jobs end


@pytest.mark.parametrize("command", ["sleep 300", "trap '' TERM; sleep 300"], ids=["polite", "deaf to SIGTERM"])
@pytest.mark.parametrize("options", ["", "--signal=KILL --full"], ids=["cancelled", "killed"])
def test_a_cancelled_job_leaves_no_container(
    cluster: Cluster, worker: Host, image: str, options: str, command: str
) -> None:
    job = cluster.submit(f"{LAUNCHER} run -v {FOLDER}:{FOLDER} {image} sh -c {shlex.quote(command)}")
    assert until(lambda: containers(worker))
    with cluster.host.sudo():
        cluster.host.check_output(f"scancel {options} {job}")
    assert until(lambda: cluster.queued(job) == "")
    assert until(lambda: not containers(worker), 10)
    assert launches(worker) == ""
    assert cluster.state(job).startswith(("CANCELLED", "FAILED"))


def test_a_launcher_killed_outright_leaves_no_container(cluster: Cluster, worker: Host, image: str) -> None:
    job = cluster.submit(f"{LAUNCHER} run -v {FOLDER}:{FOLDER} {image} sleep 300; echo went on")
    assert until(lambda: containers(worker))
    with worker.sudo():
        worker.check_output(
            "pkill --signal KILL --full '[c]omponent-launcher run'; pkill --signal KILL --full '[d]ocker run'"
        )
    assert until(lambda: cluster.queued(job) == "")
    assert until(lambda: not containers(worker), 10)
    assert launches(worker) == ""


def test_a_container_whose_job_is_over_is_removed_by_the_health_check(worker: Host, image: str) -> None:
    with worker.sudo():
        worker.check_output(f"docker run --detach --cgroupns private --label omtd.job=999999 {image} sleep 300")
        worker.check_output("/usr/local/sbin/cluster-node-health")
    assert containers(worker) == []


# ---------------------------------------------------------------- images


def test_a_missing_image_is_pulled_from_the_registry(cluster: Cluster, worker: Host, image: str) -> None:
    with worker.sudo():
        worker.run(f"docker image rm --force {image}")
    assert cluster.run(f"{LAUNCHER} run {image} echo pulled")[1].strip() == "pulled"


def test_an_image_that_does_not_exist_is_named(cluster: Cluster, registry: str) -> None:
    state, output = cluster.run(f"{LAUNCHER} run {registry}/nobody/made-this:1 true")
    assert state == "FAILED"
    assert f"image {registry}/nobody/made-this:1: does not exist in the registry {registry}" in output


def test_a_registry_that_is_down_is_named_and_a_retry_works(
    cluster: Cluster, host: Host, worker: Host, image: str, registry: str
) -> None:
    with worker.sudo():
        worker.run(f"docker image rm --force {image}")
    with host.sudo():
        units = host.check_output(
            "systemctl list-units --plain --no-legend 'docker-registry*' 'omtd-registry-proxy*' | cut -d' ' -f1"
        ).split()
        host.check_output(f"systemctl stop {' '.join(units)}")
    try:
        state, output = cluster.run(f"{LAUNCHER} run {image} true")
    finally:
        with host.sudo():
            host.check_output(f"systemctl start {' '.join(units)}")
    assert state == "FAILED"
    assert f"the registry {registry} does not answer" in output
    assert until(lambda: cluster.run(f"{LAUNCHER} run {image} true")[0] == "COMPLETED", 60)


# ---------------------------------------------------------------- nodes that fail


def test_a_node_that_falls_silent_is_down_and_comes_back_by_itself(
    cluster: Cluster, host: Host, worker: Host, worker_name: str
) -> None:
    assert until(lambda: cluster.node_state(worker_name).startswith("idle"))
    with worker.sudo():
        worker.check_output("systemctl stop slurmd")
    try:
        # what the controller does itself after SlurmdTimeout
        with host.sudo():
            host.check_output(f"scontrol update NodeName={worker_name} State=DOWN Reason='Not responding'")
        waiting = cluster.submit("true")
        assert cluster.node_state(worker_name).startswith("down")
        assert cluster.queued(waiting) == "PENDING"
    finally:
        with worker.sudo():
            worker.check_output("systemctl start slurmd")
    assert until(lambda: cluster.state(waiting) == "COMPLETED"), cluster.node_state(worker_name)


def test_a_killed_node_daemon_loses_no_job(cluster: Cluster, worker: Host, image: str) -> None:
    job = cluster.submit(f"{LAUNCHER} run {image} sleep 8")
    assert until(lambda: containers(worker))
    with worker.sudo():
        worker.check_output("systemctl kill --kill-who=main --signal KILL slurmd")
    assert until(lambda: cluster.state(job) == "COMPLETED"), cluster.state(job)


def health(worker: Host) -> None:
    """Let the node look after its health, as Slurm does every 30 s."""
    with worker.sudo():
        worker.check_output("/usr/local/sbin/cluster-node-health")


def test_a_node_with_a_full_disk_gets_no_jobs_until_there_is_room(
    cluster: Cluster, host: Host, worker: Host, worker_name: str
) -> None:
    with worker.sudo():
        worker.check_output("mount -t tmpfs -o size=1m tmpfs /var/lib/slurm/slurmd")
    try:
        health(worker)
        assert "health: /var/lib/slurm/slurmd has 1 MiB left, 64 are needed" in cluster.node_state(worker_name)
        waiting = cluster.submit("true")
        time.sleep(2)
        assert cluster.queued(waiting) == "PENDING"
    finally:
        with worker.sudo():
            worker.check_output("umount /var/lib/slurm/slurmd")
    health(worker)
    assert until(lambda: cluster.state(waiting) == "COMPLETED"), cluster.node_state(worker_name)


def test_a_node_without_docker_gets_no_jobs_until_it_is_back(cluster: Cluster, worker: Host, worker_name: str) -> None:
    with worker.sudo():
        worker.check_output("systemctl stop docker.socket docker")
    try:
        health(worker)
        assert "health: docker does not answer" in cluster.node_state(worker_name)
    finally:
        with worker.sudo():
            worker.check_output("systemctl start docker.socket docker")
    health(worker)
    assert until(lambda: cluster.node_state(worker_name).startswith("idle"))


def test_what_an_operator_drained_stays_drained(cluster: Cluster, host: Host, worker: Host, worker_name: str) -> None:
    with host.sudo():
        host.check_output(f"scontrol update NodeName={worker_name} State=DRAIN Reason='new disk'")
    try:
        health(worker)
        assert cluster.node_state(worker_name) == "drained|new disk"
    finally:
        with host.sudo():
            host.check_output(f"scontrol update NodeName={worker_name} State=RESUME")
