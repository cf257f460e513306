"""The command that forwards a port, and what is said when ssh does not get there."""

from __future__ import annotations

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.verify import tunnel


def test_ssh_is_called_as_ansible_reaches_the_host_but_on_a_connection_of_its_own() -> None:
    destination = tunnel.Destination(
        "10.0.0.5", 2222, "debian", "/keys/a b", common_args="-F '/site folder/ssh_config'", extra_args="-4"
    )
    words = tunnel.command(destination, 4000, "10.0.0.5:8080")

    assert words[:4] == ["ssh", "-F", "/site folder/ssh_config", "-4"]
    assert words[-5:] == ["-l", "debian", "-L", "127.0.0.1:4000:10.0.0.5:8080", "10.0.0.5"]
    assert words[words.index("-i") + 1] == "/keys/a b"
    assert words[words.index("-p") + 1] == "2222"
    assert "ControlPath=none" in words
    assert not any("StrictHostKeyChecking" in word for word in words)


def test_a_host_that_ssh_does_not_reach_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    destination = tunnel.Destination("127.0.0.1", 1, common_args="-F /dev/null -o UserKnownHostsFile=/dev/null")

    with (
        pytest.raises(tunnel.TunnelError, match=r"^127\.0\.0\.1: ssh cannot forward a port to 10\.0\.0\.5:8080: "),
        tunnel.tunnel(destination, "10.0.0.5:8080"),
    ):
        pass
