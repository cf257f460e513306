"""What the node's Docker does with containers."""

from __future__ import annotations

import base64
import json

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://cluster_nodes"]


@pytest.fixture(scope="module")
def image(host: Host) -> str:
    """Make an image with a shell: Debian's busybox."""
    with host.sudo():
        host.check_output(
            "docker image inspect scenario >/dev/null 2>&1 || (apt-get install -yqq busybox-static >/dev/null && "
            "d=$(mktemp -d) && mkdir -p $d/bin $d/tmp && cp /bin/busybox $d/bin/ && "
            "for n in sh yes head sleep cat echo nproc; do ln -s busybox $d/bin/$n; done && "
            "tar -C $d -c . | docker import - scenario >/dev/null && rm -r $d)"
        )
    return "scenario"


def test_a_container_runs(host: Host, image: str) -> None:
    with host.sudo():
        assert host.check_output(f"docker run --rm {image} /bin/echo hello") == "hello"


def test_a_container_is_held_to_its_memory(host: Host, image: str) -> None:
    with host.sudo():
        limit = host.check_output(
            f"docker run --rm -m 64m {image} /bin/sh -c "
            "'cat /sys/fs/cgroup/memory.max 2>/dev/null || cat /sys/fs/cgroup/memory/memory.limit_in_bytes'"
        )
    assert int(limit) == 64 * 1024 * 1024


def test_layers_are_kept_by_overlay2(host: Host) -> None:
    with host.sudo():
        assert host.check_output("docker info -f '{{.Driver}}'") == "overlay2"


def test_the_log_of_a_chatty_container_does_not_fill_the_disk(host: Host, image: str) -> None:
    with host.sudo():
        container = host.check_output(
            f"docker run -d {image} /bin/sh -c 'yes a-line-of-text-that-is-not-short | head -n 40000'"
        )
        host.check_output(f"docker wait {container}")
        folder = f"/var/lib/docker/containers/{container}"
        size = int(host.check_output(f"cat {folder}/*-json.log* | wc -c"))
        host.check_output(f"docker rm {container}")
    assert 0 < size <= 2 * 64 * 1024


def test_containers_live_on_when_the_daemon_restarts(host: Host, image: str) -> None:
    with host.sudo():
        container = host.check_output(f"docker run -d {image} /bin/sleep 300")
        before = host.check_output(f"docker inspect -f '{{{{.State.Pid}}}}' {container}")
        host.check_output("systemctl restart docker.service")
        after = host.check_output(f"docker inspect -f '{{{{.State.Pid}}}} {{{{.State.Running}}}}' {container}")
        host.check_output(f"docker rm -f {container}")
    assert after == f"{before} true"


def test_nobody_is_root_through_the_group_docker(host: Host) -> None:
    assert host.group("docker").members == []
    assert host.run("docker ps").rc != 0


def test_only_root_reads_the_login_at_the_registry(host: Host) -> None:
    assert host.run("cat /root/.docker/config.json").rc != 0
    with host.sudo():
        logins = json.loads(host.file("/root/.docker/config.json").content_string)["auths"]
        assert host.file("/root/.docker/config.json").mode == 0o600
    login = base64.b64decode(logins["registry.scenario.internal:5000"]["auth"]).decode()
    assert login == "pull:only-for-this-scenario"


def test_the_registry_is_trusted_through_the_sites_authority(host: Host) -> None:
    trusted = host.check_output("cat /etc/docker/certs.d/registry.scenario.internal:5000/ca.crt")
    assert "BEGIN CERTIFICATE" in trusted
    assert host.run(f"echo '{trusted}' | openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt").rc == 0


def test_a_sites_own_options_reach_the_daemon(host: Host) -> None:
    assert json.loads(host.file("/etc/docker/daemon.json").content_string)["max-concurrent-downloads"] == 2


def test_a_daemon_with_a_broken_configuration_is_not_written(host: Host) -> None:
    """The command that the role checks with, on the host's own Docker."""
    check = (
        "if dockerd --help 2>/dev/null | grep -q -e --validate; "
        'then exec dockerd --validate --config-file "$0"; else exec python3 -m json.tool "$0" /dev/null; fi'
    )
    with host.sudo():
        host.check_output("echo '{\"data-root\": ' > /tmp/broken.json")
        assert host.run(f"sh -c '{check}' /tmp/broken.json").rc != 0
        assert host.run(f"sh -c '{check}' /etc/docker/daemon.json").rc == 0
        host.check_output("rm /tmp/broken.json")
