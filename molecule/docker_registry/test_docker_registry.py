"""What people and nodes can do with the registry, asked with a real docker client on a node of the site."""

from __future__ import annotations

import json
import shlex

import pytest
from testinfra.host import Host

testinfra_hosts = ["ansible://cluster_nodes"]


@pytest.fixture(scope="module")
def variables(host: Host) -> dict:
    """Give the node's inventory variables."""
    return host.ansible.get_variables()


@pytest.fixture(scope="module")
def registry(variables: dict) -> str:
    """Give the registry as images name it: host:port."""
    return f"{variables['groups']['docker_registry'][0]}:5000"


@pytest.fixture(scope="module")
def registry_host(host: Host, variables: dict) -> Host:
    """Give the host that the registry runs on."""
    return host.backend.ansible_runner.get_host(variables["groups"]["docker_registry"][0])


@pytest.fixture(scope="module")
def image(host: Host, registry: str) -> str:
    """Make a small image on the node and give its name in the registry."""
    name = f"{registry}/scenario/hello:1"
    with host.sudo():
        made = host.run(f"tar -C / -c etc/debian_version | docker import - {name}")
    assert made.rc == 0, made.stderr
    return name


class Client:
    """A docker client with a configuration folder of its own, so that it has nobody's login but its own."""

    def __init__(self, host: Host, registry: str, folder: str) -> None:
        self.host, self.registry, self.folder = host, registry, folder

    def __call__(self, command: str):
        with self.host.sudo():
            return self.host.run(f"DOCKER_CONFIG={self.folder} docker {command}")

    def login(self, user: str, password: str):
        """Log in as ``user``; the password goes through standard input."""
        with self.host.sudo():
            return self.host.run(
                f"printf %s {shlex.quote(password)} | "
                f"DOCKER_CONFIG={self.folder} docker login -u {user} --password-stdin {self.registry}"
            )


@pytest.fixture
def client(host: Host, registry: str):
    with host.sudo():
        folder = host.check_output("mktemp -d")
    yield Client(host, registry, folder)
    with host.sudo():
        host.check_output(f"rm -rf {folder}")


def ask(host: Host, url: str, options: str = "") -> int:
    """Give the status code of the registry's answer; TLS is verified by what the host trusts."""
    script = (
        "import sys,urllib.request,urllib.error,base64\n"
        "url,method,login=sys.argv[1:4]\n"
        "r=urllib.request.Request(url,method=method)\n"
        "if login: r.add_header('Authorization','Basic '+base64.b64encode(login.encode()).decode())\n"
        "try: print(urllib.request.urlopen(r,timeout=20).status)\n"
        "except urllib.error.HTTPError as error: print(error.code)\n"
    )
    method, _separator, login = (options or "GET").partition(" ")
    arguments = " ".join(shlex.quote(word) for word in (script, url, method, login))
    return int(host.check_output(f"python3 -c {arguments}"))


@pytest.mark.parametrize("path", ["/v2/", "/v2/_catalog", "/v2/scenario/hello/tags/list", "/", "/metrics"])
def test_nothing_is_answered_without_a_login(host: Host, registry: str, path: str) -> None:
    assert ask(host, f"https://{registry}{path}") == 401


def test_a_wrong_password_is_refused(client: Client) -> None:
    assert client.login("push", "not-the-password").rc != 0


def test_a_user_that_is_not_there_is_refused(client: Client) -> None:
    assert client.login("admin", "admin").rc != 0


def test_an_image_cannot_be_pushed_without_a_login(client: Client, image: str) -> None:
    assert client(f"push {image}").rc != 0


def test_the_pull_user_logs_in_but_cannot_push(client: Client, image: str, variables: dict) -> None:
    assert client.login("pull", variables["vault_registry_pull_password"]).rc == 0
    pushed = client(f"push {image}")
    assert pushed.rc != 0
    assert "only the user push may write" in pushed.stderr + pushed.stdout


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH", "DELETE"])
def test_the_pull_user_may_use_no_method_that_writes(host: Host, registry: str, variables: dict, method: str) -> None:
    login = f"pull:{variables['vault_registry_pull_password']}"
    assert ask(host, f"https://{registry}/v2/scenario/hello/blobs/uploads/", f"{method} {login}") == 403


def test_a_pushed_image_is_pulled_with_the_login_that_the_node_has(
    host: Host, client: Client, image: str, variables: dict
) -> None:
    assert client.login("push", variables["vault_registry_push_password"]).rc == 0
    pushed = client(f"push {image}")
    assert pushed.rc == 0, pushed.stderr
    with host.sudo():
        host.check_output(f"docker image rm {image}")
        pulled = host.run(f"docker pull {image}")
    assert pulled.rc == 0, pulled.stderr


def test_a_large_layer_arrives_whole(host: Host, client: Client, registry: str, variables: dict) -> None:
    name = f"{registry}/scenario/large:1"
    assert client.login("push", variables["vault_registry_push_password"]).rc == 0
    with host.sudo():
        host.check_output(
            "d=$(mktemp -d) && head -c 60000000 /dev/urandom > $d/noise && sha256sum < $d/noise > /tmp/scenario-noise"
            f" && tar -C $d -c . | docker import - {name} && rm -r $d"
        )
    pushed = client(f"push {name}")
    assert pushed.rc == 0, pushed.stderr
    with host.sudo():
        host.check_output(f"docker image rm {name} && docker pull {name}")
        host.check_output(
            f"c=$(docker create {name} /none) && docker cp $c:/noise - | tar -xO | sha256sum"
            " | diff - /tmp/scenario-noise"
            f" && docker rm $c && docker image rm {name} && rm /tmp/scenario-noise"
        )


def test_another_account_of_the_node_has_no_login(host: Host, registry: str) -> None:
    assert ask(host, f"https://{registry}/v2/scenario/hello/manifests/1") == 401
    assert host.run("cat /root/.docker/config.json").rc != 0
    with host.sudo():
        assert host.file("/root/.docker/config.json").mode == 0o600


def test_a_client_that_does_not_trust_the_authority_gets_no_connection(host: Host, registry: str) -> None:
    answer = host.run(f"openssl s_client -verify_return_error -CAfile /dev/null -connect {registry} < /dev/null")
    assert answer.rc != 0


def test_old_tls_is_refused(host: Host, registry: str) -> None:
    for version in ("-tls1", "-tls1_1"):
        assert host.run(f"openssl s_client -cipher ALL:@SECLEVEL=0 {version} -connect {registry} < /dev/null").rc != 0
    assert host.run(f"openssl s_client -tls1_3 -connect {registry} < /dev/null").rc == 0


def test_the_daemon_cannot_be_reached_around_the_logins(registry_host: Host) -> None:
    assert not registry_host.socket("tcp://127.0.0.1:5001").is_listening
    assert registry_host.run("test -w /run/docker-registry/registry.sock").rc != 0


def test_passwords_are_stored_as_bcrypt_only(registry_host: Host) -> None:
    with registry_host.sudo():
        logins = registry_host.file("/etc/omtd/docker_registry/logins").content_string.splitlines()
    assert sorted(line.split(":")[0] for line in logins) == ["pull", "push"]
    assert all(line.split(":")[1].startswith("$2y$10$") for line in logins)


def test_a_deleted_image_is_gone_after_the_collection_and_others_stay(  # noqa: PLR0917
    host: Host, registry_host: Host, client: Client, registry: str, image: str, variables: dict
) -> None:
    push = f"push:{variables['vault_registry_push_password']}"
    assert client.login("push", variables["vault_registry_push_password"]).rc == 0
    name = f"{registry}/scenario/gone:1"
    with host.sudo():
        host.check_output(f"echo x > /tmp/only-here && tar -C /tmp -c only-here | docker import - {name}")
    assert client(f"push {image}").rc == 0
    assert client(f"push {name}").rc == 0
    with host.sudo():
        digest = json.loads(host.check_output(f"docker image inspect {name}"))[0]["RepoDigests"][0].split("@")[1]
        host.check_output(f"docker image rm {name} && rm /tmp/only-here")
    assert ask(host, f"https://{registry}/v2/scenario/gone/manifests/{digest}", f"DELETE {push}") == 202
    with registry_host.sudo():
        before = registry_host.check_output("find /var/lib/docker-registry -name data | wc -l")
        registry_host.check_output("systemctl start omtd-registry-collect.service")
        after = registry_host.check_output("find /var/lib/docker-registry -name data | wc -l")
    assert int(after) < int(before)
    with host.sudo():
        host.check_output(f"docker image rm {image}")
        assert host.run(f"docker pull {image}").rc == 0


def test_nobody_writes_while_unused_blobs_are_collected(
    host: Host, registry_host: Host, registry: str, variables: dict
) -> None:
    push = f"push:{variables['vault_registry_push_password']}"
    url = f"https://{registry}/v2/scenario/hello/blobs/uploads/"
    assert ask(host, url, f"POST {push}") == 202
    with registry_host.sudo():
        registry_host.check_output("systemctl start --no-block omtd-registry-collect.service && sleep 1")
        assert ask(host, url, f"POST {push}") == 503
        assert ask(host, f"https://{registry}/v2/_catalog", f"GET {push}") == 200
        registry_host.check_output("systemctl start omtd-registry-collect.service")
    assert ask(host, url, f"POST {push}") == 202


def test_everything_comes_back_when_the_daemon_is_killed(
    host: Host, registry_host: Host, registry: str, variables: dict
) -> None:
    with registry_host.sudo():
        registry_host.check_output("systemctl kill -s KILL docker-registry omtd-registry-proxy; sleep 4")
    assert ask(host, f"https://{registry}/v2/", f"GET pull:{variables['vault_registry_pull_password']}") == 200
