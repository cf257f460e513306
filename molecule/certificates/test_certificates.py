"""What hosts do with the site's authority and its certificates: real TLS between two machines, real renewals."""

from __future__ import annotations

import os
import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://monitor"]

WEB = "/etc/omtd/certificates/web"
ASK = (
    "import socket,ssl,sys\n"
    "context=ssl.create_default_context()\n"
    "try:\n"
    "  with socket.create_connection((sys.argv[1],8443),10) as s, context.wrap_socket(s,server_hostname=sys.argv[1]):\n"
    "    print('trusted')\n"
    "except ssl.SSLCertVerificationError as error: print(error.verify_message)\n"
)


@pytest.fixture(scope="module")
def variables(host: Host) -> dict:
    """Give the server's inventory variables."""
    return host.ansible.get_variables()


@pytest.fixture(scope="module")
def client(host: Host, variables: dict) -> Host:
    """Give the host without certificates of its own."""
    return host.backend.ansible_runner.get_host(variables["groups"]["testing_host"][0])


@pytest.fixture(scope="module")
def server(host: Host, variables: dict) -> Iterator[str]:
    """Serve TLS with the certificate; give the server's name."""
    with host.sudo():
        host.check_output(
            "systemctl stop scenario-tls 2>/dev/null; systemd-run --unit=scenario-tls openssl s_server -quiet"
            f" -accept 8443 -cert {WEB}/cert.pem -key {WEB}/key.pem && sleep 1"
        )
    yield variables["groups"]["monitor"][0]
    with host.sudo():
        host.check_output("systemctl stop scenario-tls")


@pytest.fixture
def converge(variables: dict):
    """Give a function that runs the role again, as an operator does, and gives what the run printed."""
    folder = Path(variables["site_folder"])

    def run(*options: str) -> str:
        inventory = os.environ.get("SCENARIO_INVENTORY") or next(str(path) for path in folder.glob("*.fleet.yml"))
        command = ["ansible-playbook", "-i", inventory, str(Path(__file__).with_name("converge.yml")), *options]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=500)
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
        return done.stdout

    return run


def test_another_host_trusts_the_server_by_all_its_names(client: Host, server: str, variables: dict) -> None:
    for name in (server, f"{server}.{variables['site_domain']}", variables["fleet_private_address"]):
        assert client.check_output(f"python3 -c {shlex.quote(ASK)} {name}") == "trusted"


def test_another_host_does_not_trust_the_server_by_a_strange_name(client: Host, server: str, variables: dict) -> None:
    with client.sudo():
        client.check_output(
            f"cp /etc/hosts /tmp/hosts && echo {variables['fleet_private_address']} stranger >> /etc/hosts"
        )
    try:
        assert "doesn't match" in client.check_output(f"python3 -c {shlex.quote(ASK)} stranger").replace(
            "mismatch", "doesn't match"
        ).replace("is not valid for", "doesn't match")
    finally:
        with client.sudo():
            client.check_output("cat /tmp/hosts > /etc/hosts && rm /tmp/hosts")


def test_the_service_reads_its_key_and_nobody_else_does(host: Host) -> None:
    key = host.file(f"{WEB}/key.pem")
    assert (key.user, key.group, key.mode) == ("root", "www-data", 0o640)
    assert host.run(f"cat {WEB}/key.pem").rc != 0
    with host.sudo("www-data"):
        assert "PRIVATE KEY" in host.check_output(f"cat {WEB}/key.pem")


def test_keys_of_two_certificates_differ(host: Host) -> None:
    with host.sudo():
        assert host.run(f"cmp {WEB}/key.pem {WEB}/../second/key.pem").rc != 0


def test_a_certificate_lives_ninety_days(host: Host) -> None:
    assert host.run(f"openssl x509 -in {WEB}/cert.pem -noout -checkend {89 * 86400}").rc == 0
    assert host.run(f"openssl x509 -in {WEB}/cert.pem -noout -checkend {91 * 86400}").rc != 0


def test_a_service_cannot_sign_for_others(host: Host) -> None:
    assert "CA:TRUE" not in host.check_output(f"openssl x509 -in {WEB}/cert.pem -noout -text")


def test_the_key_of_the_authority_stays_on_the_controller_encrypted(host: Host, variables: dict) -> None:
    key = Path(variables["site_folder"]) / "pki" / "ca.key"
    assert "ENCRYPTED" in key.read_text()
    assert key.stat().st_mode & 0o777 == 0o600
    with host.sudo():
        assert host.run("find / -xdev -name 'ca.key' -path '*omtd*' | grep .").rc != 0


def test_a_certificate_that_runs_out_is_renewed_with_the_same_key_and_its_service_reloaded(
    host: Host, converge
) -> None:
    with host.sudo():
        host.check_output("rm -f /var/tmp/scenario-reloads; systemctl daemon-reload; systemctl start scenario.service")
        before = host.check_output(f"sha256sum {WEB}/cert.pem {WEB}/key.pem").split()[::2]
        converge("-e", "certificates_renew_days=90", "-e", "certificates_leaf_days=91", "--limit", "monitor")
        after = host.check_output(f"sha256sum {WEB}/cert.pem {WEB}/key.pem").split()[::2]
        assert host.check_output("wc -l < /var/tmp/scenario-reloads") == "1"
        host.check_output("systemctl stop scenario.service")
    assert after[0] != before[0]
    assert after[1] == before[1]


def test_a_new_authority_replaces_what_the_old_one_signed(
    host: Host, client: Host, server: str, variables: dict, converge
) -> None:
    pki = Path(variables["site_folder"]) / "pki"
    for file in (pki / "ca.key", pki / "ca.crt"):
        file.unlink()
    converge()
    assert host.run(f"openssl verify -CAfile /etc/ssl/certs/ca-certificates.crt {WEB}/cert.pem").rc == 0
    with host.sudo():
        host.check_output("systemctl restart scenario-tls.service && sleep 1")
    assert client.check_output(f"python3 -c {shlex.quote(ASK)} {server}") == "trusted"


def test_an_authority_without_its_key_is_not_replaced_silently(variables: dict, converge) -> None:
    pki = Path(variables["site_folder"]) / "pki"
    (pki / "ca.key").rename(pki / "ca.key.away")
    try:
        with pytest.raises(AssertionError, match="nobody can sign with it"):
            converge("--limit", "monitor")
    finally:
        (pki / "ca.key.away").rename(pki / "ca.key")


def test_a_missing_passphrase_is_named_with_the_way_out(converge) -> None:
    with pytest.raises(AssertionError, match=r"vault_site_ca_passphrase: missing.*playbooks/secrets\.yml"):
        converge("-e", "certificates_ca_passphrase=", "--limit", "monitor")
