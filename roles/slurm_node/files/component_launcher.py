#!/usr/bin/python3 -I
"""Start the containers of Slurm jobs, and nothing else, with the rights of root.

Membership in the group docker is root, so the account of jobs has none: sudo lets it run this program, which speaks
the part of Docker's command line that Galaxy uses (galaxy.tool_util.deps.docker_util, 26.1) and refuses the rest.

    component-launcher run [OPTIONS] IMAGE [COMMAND ...]   start a component in a container of this job
    component-launcher inspect IMAGE | CONTAINER           describe an image of the site, or a container of this job
    component-launcher pull IMAGE                          fetch an image of the site
    component-launcher kill [-s SIGNAL] CONTAINER          end a container of this job
    component-launcher stop [-t SECONDS] CONTAINER
    component-launcher remove-leftovers [JOB]              root only: what a job left behind, or all jobs that are over

What holds for every container: an image of the site's registries, files of the shared directories only, the account of
jobs, no capabilities, no new privileges, no network unless the site allows one, no more memory than the job, a label
with the job. Which job is calling is not believed but seen: a slurmstepd of root is among the caller's ancestors.

Exit codes are the component's own; 125 means that it was not started and the reason is on standard error.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

CONFIG = Path("/etc/omtd/component-launcher.json")
DOCKER = "/usr/bin/docker"
# One directory a launch, JOB-..., from before its container until after it. What the container sees of this node is
# mounted there first, and a directory of a job that is over tells the epilog that something is left behind.
LAUNCHES = Path("/run/omtd/component-launcher")
# Docker is called with an environment of our own: nothing of the job's reaches a program of root.
ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root", "LC_ALL": "C.UTF-8"}
JOB_LABEL = "omtd.job"
LAUNCH_LABEL = "omtd.launch"
NOT_STARTED = 125
# Less than Slurm waits between SIGTERM and SIGKILL (KillWait, 10 s): a cancelled container is gone before we are.
GRACE_SECONDS = 7
PROCESSES_IN_A_CONTAINER = 4096
# Below this many MiB a Docker that did not start a container most likely had no room for it.
FULL_DISK_MIB = 50

CGROUPS = Path("/sys/fs/cgroup")
LIBC = ctypes.CDLL(None, use_errno=True)
MS_BIND = 4096
MNT_DETACH = 2

NAME = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,127}")
# A reference as in github.com/distribution/reference, with the registry always named.
IMAGE = re.compile(
    r"(?P<registry>[a-zA-Z0-9][a-zA-Z0-9.-]*(:[0-9]{1,5})?)"
    r"(/[a-z0-9]+((\.|__?|-+)[a-z0-9]+)*)+"
    r"(:[a-zA-Z0-9_][a-zA-Z0-9_.-]{0,127})?"
    r"(@sha256:[0-9a-f]{64})?"
)
ENVIRONMENT_ASSIGNMENT = re.compile(r"[A-Za-z_][A-Za-z0-9_]*=[^\0]*", re.DOTALL)
MEMORY = re.compile(r"(?P<number>[1-9][0-9]{0,15})(?P<unit>[bkmgBKMG]?)")
CPUS = re.compile(r"[0-9]{1,4}(\.[0-9]{1,3})?")
SIGNAL = re.compile(r"(SIG)?[A-Z]{3,6}|[0-9]{1,2}")
STEP_DAEMON = re.compile(r"slurmstepd: \[(?P<job>[0-9]+)\.")
JOB_GROUP = re.compile(r"/\S*/job_(?P<job>[0-9]+)/step_[^/\s]+(/task_[0-9]+)?")

OPTIONS_WITH_VALUE = {
    "-e": "env",
    "--env": "env",
    "-v": "volume",
    "--volume": "volume",
    "-m": "memory",
    "--memory": "memory",
    "--cpus": "cpus",
    "-w": "workdir",
    "--workdir": "workdir",
    "--net": "network",
    "--network": "network",
    "--name": "name",
    "-u": "user",
    "--user": "user",
    "--entrypoint": "entrypoint",
}
# Always so, whether asked for or not.
IGNORED_FLAGS = {"--rm", "--init"}


class RefusedError(Exception):
    """Something that this program does not do; the text names the thing, the value, the rule and the way out."""


@dataclass(frozen=True)
class Config:
    """What the site allows: /etc/omtd/component-launcher.json, written by the role slurm_node."""

    registries: tuple[str, ...]
    shared_dirs: tuple[str, ...]
    uid: int
    gid: int
    networks: tuple[str, ...] = ("none",)
    docker_root: str = "/var/lib/docker"
    job_cgroups: bool = False

    @classmethod
    def load(cls, path: Path) -> Config:
        """Read the configuration; raises RefusedError if it is unusable, or others than root could have written it."""
        try:
            owner = path.stat()
            values = json.loads(path.read_text())
            config = cls(
                registries=tuple(values["registries"]),
                shared_dirs=tuple(values["shared_dirs"]),
                uid=int(values["uid"]),
                gid=int(values["gid"]),
                networks=tuple(values.get("networks", cls.networks)),
                docker_root=str(values.get("docker_root", cls.docker_root)),
                job_cgroups=values.get("job_cgroups") is True,
            )
        except (OSError, ValueError, TypeError, KeyError) as error:
            raise RefusedError(f"{path}: cannot be used ({error!r}); run site.yml for this node") from error
        if owner.st_uid != 0 or owner.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            raise RefusedError(f"{path}: others than root may write it; run site.yml for this node")
        if config.uid <= 0 or config.gid <= 0:
            raise RefusedError(f"{path}: uid {config.uid}, gid {config.gid}: components never run as root; correct it")
        return config


@dataclass(frozen=True)
class Volume:
    """A path of this node that a container sees."""

    source: str
    target: str
    read_only: bool


@dataclass
class Run:
    """What a call of `run` asks for."""

    image: str = ""
    command: list[str] = field(default_factory=list)
    env: list[str] = field(default_factory=list)
    volumes: list[Volume] = field(default_factory=list)
    memory_bytes: int | None = None
    cpus: str | None = None
    workdir: str | None = None
    network: str = "none"
    name: str | None = None
    entrypoint: str | None = None


# ---------------------------------------------------------------- what is asked for


def options_of(arguments: Sequence[str]) -> tuple[list[tuple[str, str]], list[str]]:
    """Split the arguments of `run` as Docker does: options with their values, then image and command."""
    options: list[tuple[str, str]] = []
    rest = list(arguments)
    while rest and rest[0].startswith("-"):
        option = rest.pop(0)
        if option == "--":
            break
        word, equals, value = option.partition("=") if option.startswith("--") else (option, "", "")
        if word in IGNORED_FLAGS and (not equals or value == "true"):
            continue
        if word not in OPTIONS_WITH_VALUE:
            raise RefusedError(f"{option}: not for components; take it out of docker_run_extra_arguments")
        if not equals:
            if not rest:
                raise RefusedError(f"{option}: its value is missing")
            value = rest.pop(0)
        options.append((OPTIONS_WITH_VALUE[word], value))
    return options, rest


def parse_run(arguments: Sequence[str], config: Config) -> Run:
    """Read and check the arguments of `run`; raises RefusedError at the first thing that is not allowed."""
    options, rest = options_of(arguments)
    if not rest:
        raise RefusedError("run: no image is named")
    run = Run(image=checked_image(rest[0], config), command=rest[1:])
    for name, value in options:
        if name == "env":
            run.env.append(matching(ENVIRONMENT_ASSIGNMENT, value, "-e", "NAME=VALUE"))
        elif name == "volume":
            run.volumes.append(parse_volume(value))
        elif name == "memory":
            run.memory_bytes = parse_memory(value)
        elif name == "user":
            check_user(value, config)
        else:
            setattr(run, name, PLAIN_OPTIONS[name](value, config))
    return run


def check_user(value: str, config: Config) -> None:
    """Refuse another account than that of jobs."""
    if value not in {str(config.uid), f"{config.uid}:{config.gid}"}:
        raise RefusedError(f"--user {value}: components run as {config.uid}:{config.gid}; leave docker_set_user out")


def checked_network(value: str, config: Config) -> str:
    """Give the network back if the site allows it; raises RefusedError."""
    if value not in config.networks:
        allowed = ", ".join(config.networks)
        raise RefusedError(f"--net {value}: this site allows {allowed}; slurm_node_job_networks lists them")
    return value


def matching(pattern: re.Pattern[str], value: str, option: str, rule: str) -> str:
    """Give the value back if all of it matches; raises RefusedError with the rule."""
    if not pattern.fullmatch(value):
        raise RefusedError(f"{option} {value}: must be {rule}")
    return value


def absolute(path: str, option: str) -> str:
    """Check a path inside the container, which goes into Docker's comma-separated --mount; raises RefusedError."""
    if not path.startswith("/") or re.search(r'[\0\n\r,"]', path) or ".." in path.split("/"):
        raise RefusedError(f"{option} {path}: a path in the container is absolute, without '..', commas and quotes")
    return path


def checked_image(image: str, config: Config) -> str:
    """Give the image back if it lies in one of the site's registries; raises RefusedError."""
    match = IMAGE.fullmatch(image)
    if not match or match["registry"] not in config.registries:
        raise RefusedError(f"image {image}: components come from {', '.join(config.registries)}; push it there first")
    return image


def parse_volume(text: str) -> Volume:
    """Read SOURCE[:TARGET][:MODE] as Galaxy and Docker write it; raises RefusedError."""
    parts = text.split(":")
    mode = parts.pop() if len(parts) > 1 and not parts[-1].startswith("/") else "rw"
    if len(parts) not in {1, 2} or mode not in {"ro", "rw"}:
        raise RefusedError(f"-v {text}: a volume is SOURCE[:TARGET][:ro|rw]")
    return Volume(source=parts[0], target=absolute(parts[-1], "-v"), read_only=mode == "ro")


def parse_memory(text: str) -> int:
    """Give a memory size as Docker writes it (512m, 2g, bytes without unit) in bytes; raises RefusedError."""
    match = MEMORY.fullmatch(text)
    if not match:
        raise RefusedError(f"-m {text}: a memory size is a number with b, k, m or g, such as 512m")
    return int(match["number"]) * 1024 ** "bkmg".index(match["unit"].lower() or "b")


# Options that are checked and passed on as they are: what Run calls them, and the check.
PLAIN_OPTIONS: Mapping[str, Callable[[str, Config], str]] = {
    "cpus": lambda value, _config: matching(CPUS, value, "--cpus", "a number of CPUs, such as 2 or 0.5"),
    "name": lambda value, _config: matching(NAME, value, "--name", "letters, digits, _, . and -"),
    "workdir": lambda value, _config: absolute(value, "-w"),
    "network": checked_network,
    "entrypoint": lambda value, _config: value,
}


# ---------------------------------------------------------------- files


def open_volume(volume: Volume, shared_dirs: Sequence[str]) -> int:
    """Open what a volume names and check where it really lies: a descriptor (O_PATH) of it; raises RefusedError."""
    if not volume.source.startswith("/"):
        raise RefusedError(f"-v {volume.source}: a volume is an absolute path; named volumes are not for components")
    try:
        descriptor = os.open(volume.source, os.O_PATH | os.O_CLOEXEC)
    except (OSError, ValueError) as error:
        raise RefusedError(
            f"-v {volume.source}: cannot be opened here ({error}); is the shared directory mounted?"
        ) from error
    real = Path(f"/proc/self/fd/{descriptor}").readlink()
    kind = stat.S_IFMT(os.fstat(descriptor).st_mode)
    allowed = any(real.is_relative_to(Path(directory).resolve()) for directory in shared_dirs)
    if not allowed or kind not in {stat.S_IFDIR, stat.S_IFREG}:
        os.close(descriptor)
        where = "" if str(real) == volume.source else f" (in truth {real})"
        raise RefusedError(f"-v {volume.source}{where}: components see what lies below {', '.join(shared_dirs)} only")
    return descriptor


@contextlib.contextmanager
def pinned_volumes(volumes: Sequence[Volume], shared_dirs: Sequence[str], launch: str) -> Iterator[list[str]]:
    """Mount what the volumes name, once checked, where only root comes: the options --mount for Docker.

    Docker is not given the path that was checked: a component that puts a symbolic link there meanwhile gains nothing.
    """
    directory = LAUNCHES / launch
    directory.mkdir(parents=True, mode=0o700)
    try:
        options = []
        for number, volume in enumerate(volumes):
            descriptor = open_volume(volume, shared_dirs)
            try:
                pin(descriptor, directory / str(number))
            finally:
                os.close(descriptor)
            mode = ",readonly" if volume.read_only else ""
            options.append(f"type=bind,source={directory / str(number)},target={volume.target}{mode}")
        yield options
    finally:
        unpin(directory)


def pin(descriptor: int, target: Path) -> None:
    """Mount an open directory or file at the target. By the system call: mount(8) would follow the path anew."""
    if stat.S_ISDIR(os.fstat(descriptor).st_mode):
        target.mkdir(mode=0o700)
    else:
        target.touch(mode=0o600)
    source = Path(f"/proc/self/fd/{descriptor}")
    if LIBC.mount(bytes(source), bytes(target), None, MS_BIND, None) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise RefusedError(f"{source.readlink()}: cannot be mounted for the container ({reason})")


def unpin(directory: Path) -> None:
    """Take the mounts of a launch away; running containers keep theirs."""
    for target in directory.iterdir():
        LIBC.umount2(bytes(target), MNT_DETACH)
        if target.is_dir():
            target.rmdir()
        else:
            target.unlink()
    directory.rmdir()


# ---------------------------------------------------------------- the job


def ancestors(proc: Path, pid: int) -> Iterator[int]:
    """Yield the process ids of the parent, its parent, and so on, until process 1."""
    while pid > 1:
        try:
            fields = (proc / str(pid) / "stat").read_text()
        except OSError:
            return
        # the second field is the name in parentheses, which may hold anything
        pid = int(fields.rpartition(")")[2].split()[1])
        if pid > 0:
            yield pid


def job_of_step_daemon(proc: Path, pid: int) -> str | None:
    """Give the job if the process is a slurmstepd of root: jobs cannot feign its owner and program."""
    process = proc / str(pid)
    try:
        program = Path(str((process / "exe").readlink()).removesuffix(" (deleted)"))
        owner = process.stat().st_uid
        match = STEP_DAEMON.match((process / "cmdline").read_bytes().decode(errors="replace"))
    except OSError:
        return None
    genuine = owner == 0 and program.parent == Path("/usr/sbin") and program.name.startswith("slurmstepd")
    return match["job"] if genuine and match else None


def calling_job(proc: Path, pid: int) -> str:
    """Give the number of the Slurm job that the process belongs to; raises RefusedError outside of jobs."""
    for ancestor in ancestors(proc, pid):
        job = job_of_step_daemon(proc, ancestor)
        if job:
            return job
    raise RefusedError("not in a Slurm job: components are started by jobs; submit one with sbatch")


def running_jobs(proc: Path) -> set[str]:
    """Give the numbers of the jobs that have a slurmstepd on this node."""
    jobs = (job_of_step_daemon(proc, int(entry.name)) for entry in proc.iterdir() if entry.name.isdigit())
    return {job for job in jobs if job}


def job_cgroup(cgroups: str, job: str) -> str | None:
    """Give the control group for the job's containers out of /proc/self/cgroup, None where Slurm makes none.

    In v1 that is the task's group of the memory hierarchy, which accounting reads. In v2 it is the step's: the task's
    group holds processes, so it cannot have children.
    """
    for line in cgroups.splitlines():
        _number, controllers, path = line.split(":", 2)
        match = JOB_GROUP.match(path)
        if match and match["job"] == job and (controllers == "" or "memory" in controllers.split(",")):
            return match[0]
    return None


def remove_empty_cgroups(job: str) -> None:
    """Remove control groups that Docker made for the job beside Slurm's.

    In cgroup v1 Docker makes its parent in every hierarchy, Slurm uses some of them and removes only those. What is in
    use cannot be removed, so trying is safe.
    """
    for group in CGROUPS.glob(f"*/slurm*/uid_*/job_{job}"):
        for directory in (*group.glob("step_*/task_*"), *group.glob("step_*"), group):
            with contextlib.suppress(OSError):
                directory.rmdir()


def allocated_bytes(environment: Mapping[str, str]) -> int | None:
    """Give the job's memory out of what Slurm tells it, in bytes; None when it says nothing (or 0: all of the node).

    The environment is the job's own word. It only ever lowers a limit, and Slurm's control groups are the hard one.
    """

    def number(name: str) -> int:
        value = environment.get(name, "")
        return int(value) if re.fullmatch(r"[0-9]{1,12}", value) else 0

    mebibytes = number("SLURM_MEM_PER_NODE") or number("SLURM_MEM_PER_CPU") * (number("SLURM_CPUS_ON_NODE") or 1)
    return mebibytes * 1024**2 or None


# ---------------------------------------------------------------- Docker


def docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    """Call Docker and gather what it says."""
    return subprocess.run(
        [DOCKER, *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        errors="replace",
        env=ENVIRONMENT,
        check=False,
    )


def fetch(image: str) -> None:
    """Pull an image; raises RefusedError with what an operator can do about it."""
    answer = docker("pull", "--quiet", image)
    if answer.returncode != 0:
        raise RefusedError(explain_pull(image, answer.stderr))


def explain_pull(image: str, words: str) -> str:
    """Say why an image could not be pulled, out of Docker's words (docker.io 20.10 and 26.1)."""
    registry = image.partition("/")[0]
    said = " ".join(words.split()).removeprefix("Error response from daemon: ")
    reasons = {
        r"manifest unknown|manifest for .* not found|repository .* not found|name unknown": (
            f"does not exist in the registry {registry}; push it there, or correct the tool's container"
        ),
        r"no basic auth|unauthorized|denied|authentication required": (
            f"the registry {registry} does not let this node in; run site.yml, which logs nodes in"
        ),
        r"no space left": "there is no room for it on this node; remove images there or give its docker volume more",
        r"x509|certificate": f"the certificate of the registry {registry} is not trusted here; run site.yml",
        r"connection refused|no such host|i/o timeout|no route|unreachable|deadline|EOF|50[0-9]": (
            f"the registry {registry} does not answer; start it, then run the job again"
        ),
        r"daemon running": "Docker does not run on this node; start it with `systemctl start docker`",
    }
    for pattern, reason in reasons.items():
        if re.search(pattern, said, re.IGNORECASE):
            return f"image {image}: {reason} (Docker: {said})"
    return f"image {image}: cannot be pulled: {said}"


def docker_run(
    run: Run, account: str, labels: Mapping[str, str], mounts: Sequence[str], cgroup: str | None
) -> list[str]:
    """Give Docker's arguments for a checked call: everything that is not asked for is shut."""
    words = ["run", "--rm", "--init", "--pull", "never", "--log-driver", "none", "--cgroupns", "private"]
    for label, value in labels.items():
        words += ["--label", f"{label}={value}"]
    words += ["--user", account, "--cap-drop", "ALL", "--security-opt", "no-new-privileges"]
    words += ["--network", run.network, "--pids-limit", str(PROCESSES_IN_A_CONTAINER)]
    if cgroup:
        words += ["--cgroup-parent", cgroup]
    if run.memory_bytes is not None:
        words += ["--memory", str(run.memory_bytes), "--memory-swap", str(run.memory_bytes)]
    asked = {"--cpus": run.cpus, "--workdir": run.workdir, "--name": run.name, "--entrypoint": run.entrypoint}
    for option, wanted in asked.items():
        if wanted is not None:
            words += [option, wanted]
    for mount in mounts:
        words += ["--mount", mount]
    for variable in run.env:
        words += ["--env", variable]
    return [*words, run.image, *run.command]


def remove_by_label(label: str) -> None:
    """Remove containers by label until there is none: one that was being made is seen at the second look."""
    for _attempt in range(5):
        found = docker("ps", "--all", "--quiet", "--no-trunc", "--filter", f"label={label}").stdout.split()
        if not found:
            return
        docker("rm", "--force", "--volumes", *found)


def supervise(words: Sequence[str], launch: str) -> int:
    """Run Docker until the container ends: its exit code. A signal ends the container, not only its client."""
    ended_by: list[int] = []
    children: list[subprocess.Popen[bytes]] = []

    def end(number: int, _frame: object) -> None:
        if not ended_by:
            signal.alarm(GRACE_SECONDS)
        ended_by.append(number)
        for child in children:
            child.send_signal(signal.SIGTERM)

    def give_up(_number: int, _frame: object) -> None:
        for child in children:
            child.kill()

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT):
        signal.signal(number, end)
    signal.signal(signal.SIGALRM, give_up)
    children.append(
        subprocess.Popen([DOCKER, *words], stdin=subprocess.DEVNULL, env=ENVIRONMENT, start_new_session=True)
    )
    if ended_by:
        children[0].send_signal(signal.SIGTERM)
    code = children[0].wait()
    signal.alarm(0)
    if ended_by or code < 0 or code == NOT_STARTED:
        remove_by_label(f"{LAUNCH_LABEL}={launch}")
    if ended_by:
        return 128 + ended_by[0]
    return code if code >= 0 else 128 - code


# ---------------------------------------------------------------- verbs


def run_verb(arguments: Sequence[str], config: Config, job: str) -> int:
    """Start a component and wait for it."""
    run = parse_run(arguments, config)
    allocated = allocated_bytes(os.environ)
    if allocated is not None:
        run.memory_bytes = min(run.memory_bytes or allocated, allocated)
    launch = f"{job}-{uuid.uuid4()}"
    cgroup = job_cgroup(Path("/proc/self/cgroup").read_text(), job) if config.job_cgroups else None
    with pinned_volumes(run.volumes, config.shared_dirs, launch) as mounts:
        if docker("image", "inspect", "--format", "{{.Id}}", run.image).returncode != 0:
            fetch(run.image)
        labels = {JOB_LABEL: job, LAUNCH_LABEL: launch}
        code = supervise(docker_run(run, f"{config.uid}:{config.gid}", labels, mounts, cgroup), launch)
    if cgroup:
        remove_empty_cgroups(job)
    if code == NOT_STARTED:
        say(f"the container was not started on {os.uname().nodename}, see above{full_disks(config)}")
    return code


def full_disks(config: Config) -> str:
    """Name the directories without room, '' if there are none."""
    watched = (config.docker_root, *config.shared_dirs)
    full = [path for path in watched if shutil.disk_usage(path).free < FULL_DISK_MIB * 1024**2]
    return f"; there is no room in {', '.join(full)}: remove something there" if full else ""


def inspect_verb(arguments: Sequence[str], config: Config, job: str) -> int:
    """Describe an image of the site, or a container of this job."""
    (name,) = exactly(arguments, 1, "inspect IMAGE or inspect CONTAINER")
    if "/" in name:
        return show(docker("image", "inspect", checked_image(name, config)))
    return show(docker("container", "inspect", own_container(name, job)))


def pull_verb(arguments: Sequence[str], config: Config, _job: str) -> int:
    """Fetch an image of the site."""
    (image,) = exactly(arguments, 1, "pull IMAGE")
    fetch(checked_image(image, config))
    return 0


def kill_verb(arguments: Sequence[str], _config: Config, job: str) -> int:
    """Send a signal to a container of this job."""
    options: list[str] = []
    if len(arguments) == 3 and arguments[0] in {"-s", "--signal"}:
        options = ["--signal", matching(SIGNAL, arguments[1], "-s", "a signal's name or number")]
        arguments = arguments[2:]
    (name,) = exactly(arguments, 1, "kill [-s SIGNAL] CONTAINER")
    return show(docker("kill", *options, own_container(name, job)))


def stop_verb(arguments: Sequence[str], _config: Config, job: str) -> int:
    """End a container of this job, politely first."""
    options: list[str] = []
    if len(arguments) == 3 and arguments[0] in {"-t", "--time"}:
        options = ["--time", matching(re.compile(r"[0-9]{1,4}"), arguments[1], "-t", "a number of seconds")]
        arguments = arguments[2:]
    (name,) = exactly(arguments, 1, "stop [-t SECONDS] CONTAINER")
    return show(docker("stop", *options, own_container(name, job)))


def exactly(arguments: Sequence[str], count: int, usage: str) -> Sequence[str]:
    """Give the arguments back if there are so many; raises RefusedError with the usage."""
    if len(arguments) != count:
        raise RefusedError(f"{' '.join(arguments) or 'nothing'}: the call is: {usage}")
    return arguments


def own_container(name: str, job: str) -> str:
    """Give the id of a container that has the name and belongs to the job; raises RefusedError."""
    matching(NAME, name, "container", "letters, digits, _, . and -")
    answer = docker("container", "inspect", "--format", f'{{{{.Id}}}} {{{{index .Config.Labels "{JOB_LABEL}"}}}}', name)
    container, _separator, owner = answer.stdout.strip().partition(" ")
    if answer.returncode != 0 or owner != job:
        raise RefusedError(f"container {name}: job {job} has no such container")
    return container


def show(answer: subprocess.CompletedProcess[str]) -> int:
    """Pass on what Docker said."""
    sys.stdout.write(answer.stdout)
    sys.stderr.write(answer.stderr)
    return answer.returncode


def remove_leftovers(arguments: Sequence[str], config: Config, proc: Path) -> int:
    """Remove containers and mounts of a job that ends; without a job, of all that are over. Not for jobs."""
    if os.environ.get("SUDO_UID") == str(config.uid):
        raise RefusedError("remove-leftovers: only Slurm's epilog and the node's health check do this")
    jobs = set(arguments) if arguments else known_jobs() - running_jobs(proc)
    for job in jobs:
        remove_by_label(f"{JOB_LABEL}={job}")
        for directory in LAUNCHES.glob(f"{job}-*"):
            unpin(directory)
        remove_empty_cgroups(job)
    return 0


def known_jobs() -> set[str]:
    """Give the numbers of jobs that have a container or a launch on this node."""
    label = f'{{{{.Label "{JOB_LABEL}"}}}}'
    labelled = docker("ps", "--all", "--filter", f"label={JOB_LABEL}", "--format", label).stdout.split()
    return {*labelled, *(directory.name.partition("-")[0] for directory in LAUNCHES.glob("*-*"))}


VERBS = {"run": run_verb, "inspect": inspect_verb, "pull": pull_verb, "kill": kill_verb, "stop": stop_verb}


def say(words: str) -> None:
    """Tell the job what is wrong, in one line."""
    print(f"component-launcher: {words}", file=sys.stderr, flush=True)


def main(arguments: Sequence[str]) -> int:
    """Do what the arguments ask for: the exit code."""
    proc = Path("/proc")
    try:
        if not arguments or arguments[0] not in {*VERBS, "remove-leftovers"}:
            verb = arguments[0] if arguments else "nothing"
            raise RefusedError(f"{verb}: not among {', '.join(VERBS)}, the calls that Galaxy makes")
        config = Config.load(CONFIG)
        if arguments[0] == "remove-leftovers":
            return remove_leftovers(arguments[1:], config, proc)
        return VERBS[arguments[0]](arguments[1:], config, calling_job(proc, os.getpid()))
    except RefusedError as refusal:
        say(str(refusal))
        return NOT_STARTED


def entry_point() -> NoReturn:
    """Start here."""
    os.umask(0o022)
    sys.exit(main(sys.argv[1:]))


if __name__ == "__main__":
    entry_point()
