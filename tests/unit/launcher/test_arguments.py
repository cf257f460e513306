"""What a job may ask of the launcher, and what reaches Docker."""

from __future__ import annotations

import shlex
import string
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from launcher_program import load_launcher

IMAGE = "lab-registry-1:5000/tf-keywords:1.0"
# What galaxy.tool_util.deps.docker_util.build_docker_run_command (26.1.2) gives, once the shell has expanded it.
GALAXY_RUN = (
    '-e "GALAXY_SLOTS=1" -e "HOME=/srv/omtd/database/jobs/000/1/home" --name 0a1b2c3d4e5f'
    " -v /srv/omtd/database/jobs/000/1:/srv/omtd/database/jobs/000/1:ro"
    " -v /srv/omtd/database/jobs/000/1/outputs:/srv/omtd/database/jobs/000/1/outputs:rw"
    " -v /srv/omtd/database/jobs/000/1/tmp:/tmp:rw"
    " -m 2048m --cpus 1 -w /srv/omtd/database/jobs/000/1/working --net none --rm --user 7100:7100"
    f" {IMAGE} /bin/bash /srv/omtd/database/jobs/000/1/tool_script.sh"
)


def test_the_call_that_galaxy_makes_is_understood(launcher: ModuleType, config: Any) -> None:
    run = launcher.parse_run(shlex.split(GALAXY_RUN), config)
    assert run.image == IMAGE
    assert run.command == ["/bin/bash", "/srv/omtd/database/jobs/000/1/tool_script.sh"]
    assert run.env == ["GALAXY_SLOTS=1", "HOME=/srv/omtd/database/jobs/000/1/home"]
    assert run.name == "0a1b2c3d4e5f"
    assert run.memory_bytes == 2048 * 1024**2
    assert run.cpus == "1"
    assert run.workdir == "/srv/omtd/database/jobs/000/1/working"
    assert [(volume.target, volume.read_only) for volume in run.volumes] == [
        ("/srv/omtd/database/jobs/000/1", True),
        ("/srv/omtd/database/jobs/000/1/outputs", False),
        ("/tmp", False),
    ]


def test_options_with_an_equals_sign_are_understood(launcher: ModuleType, config: Any) -> None:
    run = launcher.parse_run(["--memory=1g", "--cpus=0.5", "--network=none", "--rm=true", IMAGE], config)
    assert (run.memory_bytes, run.cpus, run.network) == (1024**3, "0.5", "none")


def test_what_follows_the_image_belongs_to_the_component(launcher: ModuleType, config: Any) -> None:
    run = launcher.parse_run([IMAGE, "--privileged", "-v", "/:/host"], config)
    assert run.command == ["--privileged", "-v", "/:/host"]
    assert run.volumes == []


@pytest.mark.parametrize(
    "option",
    [
        ["--privileged"],
        ["--privileged=true"],
        ["--device", "/dev/sda"],
        ["--device=/dev/sda"],
        ["--cap-add", "SYS_ADMIN"],
        ["--security-opt", "seccomp=unconfined"],
        ["--pid", "host"],
        ["--ipc=host"],
        ["--uts", "host"],
        ["--userns", "host"],
        ["--cgroupns", "host"],
        ["--cgroup-parent", "/"],
        ["--runtime", "runc"],
        ["--mount", "type=bind,source=/,target=/host"],
        ["--volumes-from", "other"],
        ["--volume-driver", "local"],
        ["--env-file", "/etc/shadow"],
        ["--label-file", "/etc/shadow"],
        ["--label", "omtd.job=1"],
        ["--cidfile", "/etc/cron.d/x"],
        ["--add-host", "a:1.2.3.4"],
        ["--dns", "1.1.1.1"],
        ["--gpus", "all"],
        ["--group-add", "0"],
        ["--oom-score-adj", "-1000"],
        ["--oom-kill-disable"],
        ["--pids-limit", "-1"],
        ["--memory-swap", "-1"],
        ["--ulimit", "nproc=100000"],
        ["--sysctl", "net.ipv4.ip_forward=1"],
        ["--restart", "always"],
        ["--detach"],
        ["-d"],
        ["-P"],
        ["-p", "80:80"],
        ["-H", "tcp://other:2375"],
        ["-it"],
        ["-eA=b"],
        ["--rm=false"],
        ["--pull", "always"],
        ["--log-driver", "syslog"],
        ["--tmpfs", "/x"],
        ["--link", "other"],
        ["--storage-opt", "size=1T"],
        ["--init=false"],
    ],
    ids=" ".join,
)
def test_every_other_option_is_refused(launcher: ModuleType, config: Any, option: list[str]) -> None:
    with pytest.raises(launcher.RefusedError):
        launcher.parse_run([*option, IMAGE, "true"], config)


@pytest.mark.parametrize(
    "image",
    [
        "busybox",
        "busybox:1",
        "docker.io/library/busybox",
        "lab-registry-1/tf:1",
        "lab-registry-1:5001/tf:1",
        "lab-registry-1:5000",
        "lab-registry-1:5000/",
        "lab-registry-1:5000/../tf",
        "lab-registry-1:5000/Upper:1",
        "lab-registry-1:5000/tf:1 --privileged",
        "lab-registry-1:5000/tf:1\n",
        "evil/lab-registry-1:5000/tf",
        "evil.example/lab-registry-1:5000/tf",
        "lab-registry-1:5000.evil.example/tf",
        "lab-registry-1:5000@evil/tf",
        "http://lab-registry-1:5000/tf",
        "",
    ],
)
def test_images_from_elsewhere_are_refused(launcher: ModuleType, config: Any, image: str) -> None:
    with pytest.raises(launcher.RefusedError, match="components come from lab-registry-1:5000"):
        launcher.parse_run([image], config)


@pytest.mark.parametrize(
    "image",
    [IMAGE, "lab-registry-1:5000/a/b_c/d-e", f"lab-registry-1:5000/tf:1@sha256:{'0' * 64}", "lab-registry-1:5000/tf"],
)
def test_images_of_the_site_are_taken(launcher: ModuleType, config: Any, image: str) -> None:
    assert launcher.parse_run([image], config).image == image


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "no image is named"),
        (["-e"], "its value is missing"),
        (["-e", "HOME", IMAGE], "NAME=VALUE"),
        (["-e", "=x", IMAGE], "NAME=VALUE"),
        (["--user", "0", IMAGE], "components run as 7100:7100"),
        (["--user", "7100:0", IMAGE], "components run as 7100:7100"),
        (["--user", "root", IMAGE], "components run as 7100:7100"),
        (["--net", "host", IMAGE], "this site allows none"),
        (["--net", "container:other", IMAGE], "this site allows none"),
        (["-w", "working", IMAGE], "absolute"),
        (["-w", "/a/../b", IMAGE], "absolute"),
        (["-m", "-1", IMAGE], "memory size"),
        (["-m", "0", IMAGE], "memory size"),
        (["-m", "1t", IMAGE], "memory size"),
        (["--cpus", "-1", IMAGE], "number of CPUs"),
        (["--name", "-x", IMAGE], "letters, digits"),
        (["--name", "a b", IMAGE], "letters, digits"),
        (["-v", "/a:/b:/c:rw", IMAGE], "SOURCE"),
        (["-v", "/a:/b:shared", IMAGE], "SOURCE"),
        (["-v", "/a:/b:ro,z", IMAGE], "SOURCE"),
        (["-v", "/a:/b,readonly=false", IMAGE], "commas"),
        (["-v", '/a:/b"', IMAGE], "quotes"),
        (["-v", "/a:/b/../c", IMAGE], "absolute"),
        (["-v", "name", IMAGE], "absolute"),
    ],
)
def test_the_refusal_says_what_is_wrong(launcher: ModuleType, config: Any, arguments: list[str], message: str) -> None:
    with pytest.raises(launcher.RefusedError, match=message):
        launcher.parse_run(arguments, config)


def test_a_network_is_given_only_where_the_site_allows_it(launcher: ModuleType, shared: object) -> None:
    open_site = launcher.Config(
        registries=("lab-registry-1:5000",), shared_dirs=(str(shared),), uid=1, gid=1, networks=("none", "bridge")
    )
    assert launcher.parse_run(["--net", "bridge", IMAGE], open_site).network == "bridge"
    assert launcher.parse_run([IMAGE], open_site).network == "none"


# ---------------------------------------------------------------- whatever a job asks for

LAUNCHER = load_launcher()
SITE = LAUNCHER.Config(registries=("lab-registry-1:5000",), shared_dirs=("/srv/omtd/database",), uid=7100, gid=7100)
WORDS = st.one_of(
    st.sampled_from(
        [
            *LAUNCHER.OPTIONS_WITH_VALUE,
            "--rm",
            "--init",
            "--privileged",
            "--device",
            "-i",
            "--",
            "-",
            "--mount",
            "--cap-add",
            IMAGE,
        ]
    ),
    st.sampled_from(
        ["/srv/omtd/database:/x:rw", "/srv/omtd/database:ro", "A=b", "512m", "2", "none", "7100", "/x", "c1", "busybox"]
    ),
    st.builds(
        "{}={}".format,
        st.sampled_from([*LAUNCHER.OPTIONS_WITH_VALUE, "--privileged"]),
        st.text(string.printable, max_size=8),
    ),
    st.text(max_size=12),
)
# Docker's options of ours: with a value, or flags
VALUED = {
    "--log-driver": {"none"},
    "--cgroupns": {"private"},
    "--pull": {"never"},
    "--user": {"7100:7100"},
    "--cap-drop": {"ALL"},
    "--security-opt": {"no-new-privileges"},
    "--network": {"none"},
    "--pids-limit": {str(LAUNCHER.PROCESSES_IN_A_CONTAINER)},
    "--label": {"omtd.job=12", "omtd.launch=12-x"},
}
FREE = {"--memory", "--memory-swap", "--cpus", "--workdir", "--name", "--entrypoint", "--env", "--mount"}


def docker_reads(words: list[str]) -> tuple[dict[str, list[str]], set[str], str]:
    """Read a `docker run` as Docker does: options, flags, image."""
    options: dict[str, list[str]] = {}
    flags: set[str] = set()
    rest = words[1:]
    while rest[0].startswith("-"):
        word = rest.pop(0)
        if word in VALUED or word in FREE:
            options.setdefault(word, []).append(rest.pop(0))
        else:
            flags.add(word)
    return options, flags, rest[0]


@given(st.lists(WORDS, max_size=14))
def test_nothing_that_a_job_writes_opens_a_container(arguments: list[str]) -> None:
    try:
        run = LAUNCHER.parse_run(arguments, SITE)
    except LAUNCHER.RefusedError:
        return
    mounts = [f"type=bind,source=/run/x/{number},target={volume.target}" for number, volume in enumerate(run.volumes)]
    labels = {LAUNCHER.JOB_LABEL: "12", LAUNCHER.LAUNCH_LABEL: "12-x"}
    words = LAUNCHER.docker_run(run, "7100:7100", labels, mounts, None)
    options, flags, image = docker_reads(words)
    assert flags == {"--rm", "--init"}
    assert image == IMAGE
    for option, allowed in VALUED.items():
        assert set(options[option]) == allowed, option
    for mount in options.get("--mount", []):
        assert mount.count(",") == 2
        assert "\n" not in mount


@given(st.integers(1, 10**6), st.sampled_from("bkmgBKMG"))
def test_memory_sizes_are_read_as_docker_reads_them(number: int, unit: str) -> None:
    assert LAUNCHER.parse_memory(f"{number}{unit}") == number * 1024 ** "bkmg".index(unit.lower())
