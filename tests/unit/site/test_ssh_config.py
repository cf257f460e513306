"""How hosts are reached, asked of ssh itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.site.ssh_config import Destination, render


def settings(folder: Path, destination: str, text: str) -> dict[str, str]:
    """What ssh makes of the file for one destination (`ssh -G` connects to nothing)."""
    path = folder / "ssh config"
    path.write_text(text, encoding="utf-8")
    shown = subprocess.run(
        ["ssh", "-G", "-F", str(path), destination], capture_output=True, text=True, check=True, timeout=10
    )
    return dict(line.partition(" ")[::2] for line in shown.stdout.splitlines())


JUMP = Destination("s-jump-1", "192.0.2.1", user="debian", identity_file="/keys/a key")
WORKER = Destination("s-worker-1", "10.0.0.2", user="debian", port=2222, alias="s-worker-1", jump="s-jump-1")


@pytest.mark.parametrize("destination", ["s-worker-1", "10.0.0.2"])
def test_a_private_host_is_reached_through_the_jump_host_by_name_and_by_address(
    tmp_path: Path, destination: str
) -> None:
    found = settings(tmp_path, destination, render("s", [JUMP, WORKER], ["/site/known_hosts"]))
    assert found["proxyjump"] == "s-jump-1"
    assert found["hostname"] == "10.0.0.2"
    assert found["port"] == "2222"
    assert found["hostkeyalias"] == "s-worker-1"


def test_the_jump_host_itself_gets_the_same_known_hosts_and_no_jump(tmp_path: Path) -> None:
    found = settings(tmp_path, "s-jump-1", render("s", [JUMP, WORKER], ["/site/known_hosts"]))
    assert "proxyjump" not in found
    assert found["hostname"] == "192.0.2.1"
    assert found["userknownhostsfile"] == "/site/known_hosts"
    assert found["stricthostkeychecking"] in ("true", "yes")
    assert found["identityfile"] == "/keys/a key"


def test_the_order_of_hosts_does_not_change_the_file() -> None:
    assert render("s", [JUMP, WORKER], ["/k"]) == render("s", [WORKER, JUMP], ["/k"])


@pytest.mark.parametrize("field", ["name", "address", "user", "alias", "jump"])
@pytest.mark.parametrize("value", ["a\n  ProxyCommand touch /tmp/x", "a b", "-oProxyCommand=x", 'a"'])
def test_an_answer_of_the_cloud_cannot_write_directives(field: str, value: str) -> None:
    values = {"name": "s-worker-1", "address": "10.0.0.2", field: value}
    with pytest.raises(ValueError, match=field):
        render("s", [Destination(**values)], ["/k"])
