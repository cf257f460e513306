"""Who gets in, who does not, and what the hosts know of each other: tried from host to host."""

from __future__ import annotations

import shlex
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://cluster_master"]

LISTEN = (
    "import socket,sys\n"
    "s=socket.socket(); s.setsockopt(socket.SOL_SOCKET,socket.SO_REUSEADDR,1)\n"
    "s.bind(('0.0.0.0',int(sys.argv[1]))); s.listen(50)\n"
    "while True: c,_=s.accept(); c.sendall(b'hello'); c.close()\n"
)
CONNECT = (
    "import socket,sys\n"
    "try: print(socket.create_connection((sys.argv[1],int(sys.argv[2])),3).recv(5).decode())\n"
    "except OSError as error: print(type(error).__name__)\n"
)


@pytest.fixture(scope="module")
def variables(host: Host) -> dict:
    """Give the master's inventory variables."""
    return host.ansible.get_variables()


def first(host: Host, variables: dict, group: str) -> Host:
    """Give the first host of a group."""
    return host.backend.ansible_runner.get_host(variables["groups"][group][0])


@pytest.fixture(scope="module")
def node(host: Host, variables: dict) -> Host:
    """Give the node of the cluster."""
    return first(host, variables, "cluster_nodes")


@pytest.fixture(scope="module")
def outsider(host: Host, variables: dict) -> Host:
    """Give the host that has no business with the cluster."""
    return first(host, variables, "monitor")


@pytest.fixture(scope="module")
def names(variables: dict) -> dict[str, str]:
    """Give the names of the three machines."""
    groups = variables["groups"]
    return {"master": groups["cluster_master"][0], "node": groups["normal"][0], "outsider": groups["monitor"][0]}


@contextmanager
def listening(host: Host, port: int) -> Iterator[None]:
    """Let something answer at a port of a host meanwhile."""
    unit = f"scenario-listener-{port}"
    with host.sudo():
        host.check_output(f"systemd-run --unit={unit} python3 -c {shlex.quote(LISTEN)} {port} && sleep 0.5")
    try:
        yield
    finally:
        with host.sudo():
            host.check_output(f"systemctl stop {unit}")


def connect(host: Host, name: str, port: int) -> str:
    """Give what a host hears at a port: hello, or the name of the error."""
    return host.check_output(f"python3 -c {shlex.quote(CONNECT)} {name} {port}")


def test_a_port_of_the_table_is_open_to_the_groups_it_names(host: Host, node: Host, names: dict) -> None:
    with listening(host, 6817):
        assert connect(node, names["master"], 6817) == "hello"


def test_a_port_of_the_table_is_closed_to_other_groups(host: Host, outsider: Host, names: dict) -> None:
    with listening(host, 6817):
        assert connect(outsider, names["master"], 6817) == "TimeoutError"


def test_a_range_of_ports_is_open_to_its_last_port_and_no_further(host: Host, node: Host, names: dict) -> None:
    with listening(host, 60100), listening(host, 60101):
        assert connect(node, names["master"], 60100) == "hello"
        assert connect(node, names["master"], 60101) == "TimeoutError"


def test_a_port_that_no_row_names_is_closed_to_everybody(host: Host, node: Host, outsider: Host, names: dict) -> None:
    with listening(host, 9999):
        assert connect(node, names["master"], 9999) == "TimeoutError"
        assert connect(outsider, names["master"], 9999) == "TimeoutError"
        assert connect(host, "127.0.0.1", 9999) == "hello"
        assert connect(host, names["master"], 9999) == "hello"


@pytest.fixture(scope="module")
def image(node: Host) -> str:
    """Make an image with a shell and a web server on the node: Debian's busybox."""
    with node.sudo():
        node.check_output(
            "docker image inspect scenario >/dev/null 2>&1 || (apt-get install -yqq busybox-static >/dev/null && "
            "d=$(mktemp -d) && mkdir -p $d/bin $d/tmp && cp /bin/busybox $d/bin/ && "
            "for n in sh nc httpd wget sleep echo; do ln -s busybox $d/bin/$n; done && "
            "tar -C $d -c . | docker import - scenario >/dev/null && rm -r $d)"
        )
    return "scenario"


@contextmanager
def publishing(node: Host, image: str, *ports: int) -> Iterator[None]:
    """Run a container on the node that answers at its port 80, published as ``ports``."""
    published = " ".join(f"-p {port}:80" for port in ports)
    with node.sudo():
        node.check_output(
            f"docker run -d --name scenario-web {published} {image} "
            "/bin/nc -ll -p 80 -e /bin/echo hello >/dev/null && sleep 1"
        )
    try:
        yield
    finally:
        with node.sudo():
            node.check_output("docker rm -f scenario-web")


def test_a_published_port_is_filtered_like_any_other(
    host: Host, node: Host, outsider: Host, image: str, names: dict
) -> None:
    with publishing(node, image, 6818, 7001, 9999):
        assert connect(host, names["node"], 6818) == "hello"
        assert connect(outsider, names["node"], 6818) == "TimeoutError"
        assert connect(outsider, names["node"], 7001) == "hello"
        assert connect(host, names["node"], 7001) == "TimeoutError"
        assert connect(host, names["node"], 9999) == "TimeoutError"
        assert connect(outsider, names["node"], 9999) == "TimeoutError"


def test_the_address_of_a_container_cannot_be_reached_from_outside(
    host: Host, node: Host, image: str, variables: dict, names: dict
) -> None:
    with publishing(node, image, 6818):
        with node.sudo():
            inside = node.check_output(
                "docker inspect -f '{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}' scenario-web"
            )
            via = node.check_output(f"getent hosts {names['node']} | cut -d' ' -f1")
        with host.sudo():
            host.check_output(f"ip route replace {inside} via {via}")
        try:
            assert connect(host, inside, 80) == "TimeoutError"
        finally:
            with host.sudo():
                host.check_output(f"ip route del {inside}")


def test_containers_reach_out_and_still_do_after_the_firewall_is_loaded_again(
    host: Host, node: Host, image: str, names: dict
) -> None:
    address = host.check_output(f"getent hosts {names['master']} | cut -d' ' -f1")
    with listening(host, 6817), node.sudo():
        ask = f"docker run --rm {image} /bin/nc -w 5 {address} 6817"
        assert node.check_output(ask) == "hello"
        node.check_output("systemctl reload omtd-firewall.service")
        assert node.check_output(ask) == "hello"


@contextmanager
def metadata_service(node: Host) -> Iterator[None]:
    """Let something answer at port 80 of the metadata address, one hop away from the node."""
    with node.sudo():
        node.check_output(
            "ip netns add scenario && ip link add scenario0 type veth peer name scenario1 netns scenario"
            " && ip address add 10.254.254.1/30 dev scenario0 && ip link set scenario0 up"
            " && ip -n scenario address add 10.254.254.2/30 dev scenario1 && ip -n scenario link set scenario1 up"
            " && ip -n scenario address add 169.254.169.254/32 dev scenario1"
            " && ip -n scenario route add default via 10.254.254.1"
            " && ip route add 169.254.169.254 via 10.254.254.2"
            " && systemd-run --unit=scenario-metadata -p NetworkNamespacePath=/run/netns/scenario"
            f" python3 -c {shlex.quote(LISTEN)} 80 && sleep 1"
        )
    try:
        yield
    finally:
        with node.sudo():
            node.check_output("systemctl stop scenario-metadata; ip link del scenario0; ip netns del scenario")


def test_the_metadata_address_is_closed_to_containers_and_accounts_but_not_to_root(node: Host, image: str) -> None:
    with metadata_service(node):
        with node.sudo():
            assert connect(node, "169.254.169.254", 80) == "hello"
            assert node.run(f"docker run --rm {image} /bin/nc -w 3 169.254.169.254 80").rc != 0
        assert connect(node, "169.254.169.254", 80) == "ConnectionRefusedError"


def test_tables_of_others_survive_a_reload(host: Host) -> None:
    with host.sudo():
        host.check_output("nft add table inet scenario_other")
        host.check_output("systemctl reload omtd-firewall.service")
        assert "scenario_other" in host.check_output("nft list tables")
        host.check_output("nft delete table inet scenario_other")


def test_the_firewall_is_loaded_at_boot_before_the_network(host: Host) -> None:
    assert host.service("omtd-firewall").is_enabled
    assert "network-pre.target" in host.check_output("systemctl show -p Before omtd-firewall.service")


def test_nobody_waits_to_take_the_firewall_away_again(host: Host) -> None:
    assert host.run("systemctl is-active omtd-firewall-rollback.timer").stdout.strip() == "inactive"


def test_a_broken_firewall_is_refused_and_the_present_one_stays(host: Host) -> None:
    with host.sudo():
        before = host.check_output("nft list table inet omtd")
        assert host.run("(cat /etc/omtd/firewall.nft; echo 'table inet omtd { nonsense }') | nft -f -").rc != 0
        assert host.check_output("nft list table inet omtd") == before


def ssh(variables: dict, user: str, options: str = "", command: str = "id -un") -> subprocess.CompletedProcess[str]:
    """Log in at the master from the controller, with the key of the operator."""
    folder = Path(variables["site_folder"])
    return subprocess.run(
        [
            *("ssh", "-n", "-F", "none", "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", "-o", "IdentitiesOnly=yes"),
            *("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"),
            *("-i", str(folder / ".fleet" / "operator"), *shlex.split(options)),
            *(f"{user}@{variables['ansible_host']}", command),
        ],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )


def test_an_operator_gets_in_and_becomes_root(variables: dict) -> None:
    assert ssh(variables, "alice").stdout.strip() == "alice"
    assert ssh(variables, "alice", command="sudo -n id -un").stdout.strip() == "root"


def test_a_former_operator_is_gone(host: Host, variables: dict) -> None:
    assert not host.user("mallory").exists
    assert ssh(variables, "mallory").returncode != 0


def test_root_does_not_get_in(variables: dict) -> None:
    assert ssh(variables, "root").returncode != 0


def test_sshd_offers_nothing_but_keys(variables: dict) -> None:
    refused = ssh(variables, "alice", options="-o PreferredAuthentications=password,keyboard-interactive")
    assert "Permission denied (publickey)" in refused.stderr


def test_hosts_know_each_other_by_both_names(host: Host, node: Host, variables: dict, names: dict) -> None:
    expected = variables["fleet_private_address"]
    for name in (names["master"], f"{names['master']}.{variables['site_domain']}"):
        assert node.check_output(f"getent ahostsv4 {name} | head -1").split()[0] == expected
        assert host.check_output(f"getent ahostsv4 {name} | head -1").split()[0] == expected


def test_the_host_shows_the_time_of_the_site(host: Host, variables: dict) -> None:
    zone = variables["site_timezone"]
    assert host.check_output("readlink -f /etc/localtime") == f"/usr/share/zoneinfo/{zone}"


def test_time_is_kept_where_the_clock_is_the_hosts_own(host: Host) -> None:
    assert host.service("systemd-timesyncd").is_enabled
    assert host.run("systemctl is-failed systemd-timesyncd").rc != 0


def test_security_updates_install_themselves_without_rebooting(host: Host) -> None:
    with host.sudo():
        settings = host.check_output("apt-config dump")
        assert 'APT::Periodic::Unattended-Upgrade "1";' in settings
        assert 'Unattended-Upgrade::Automatic-Reboot "false";' in settings
        assert host.run("unattended-upgrade --dry-run").rc == 0
