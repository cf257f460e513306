"""Machines that somebody else made are seen, and never made, changed or taken away."""

from __future__ import annotations

import pytest
from ansible_collections.omtd.workflow.plugins.module_utils.clouds import base
from ansible_collections.omtd.workflow.plugins.module_utils.fleet import plan, spec

FLEET = {
    "site": "here",
    "cloud": {"provider": "existing", "user": "admin", "identity_file": "~/key"},
    "machines": {
        "gate": {"groups": ["jump_host"], "addresses": [{"private": "10.0.0.5", "public": "192.0.2.5"}]},
        "worker": {"groups": ["normal"], "addresses": ["10.0.0.21", {"private": "10.0.0.22", "user": "ubuntu"}]},
    },
}


@pytest.fixture
def fleet() -> spec.FleetSpec:
    return spec.parse(FLEET, folder="/site")


def test_every_host_of_the_file_is_there_where_the_file_says(fleet: spec.FleetSpec) -> None:
    hosts = plan.observed_hosts(fleet, base.connect(fleet).observe())
    assert {name: machine.private_address for name, machine in hosts.items()} == {
        "here-gate-1": "10.0.0.5",
        "here-worker-1": "10.0.0.21",
        "here-worker-2": "10.0.0.22",
    }
    assert hosts["here-gate-1"].public_address == "192.0.2.5"
    assert [hosts[name].user for name in sorted(hosts)] == ["admin", "admin", "ubuntu"]
    assert not hosts["here-gate-1"].identity_file.startswith("~")


@pytest.mark.parametrize(
    ("call", "arguments"),
    [
        ("create_machine", (base.WantedMachine("x", {}, "debian-12"), print)),
        ("start_machine", ("x", base.WantedMachine("x", {}, "debian-12"), print)),
        ("delete_machine", ("x", "x")),
        ("adopt_machine", ("x", {})),
        ("create_volume", (base.WantedVolume("x", 1, {}),)),
        ("delete_volume", ("x",)),
        ("create_network", (base.WantedNetwork("x", "10.0.0.0/24", {}),)),
        ("delete_network", ("x",)),
    ],
)
def test_whatever_would_change_a_machine_is_refused(
    fleet: spec.FleetSpec, call: str, arguments: tuple[object, ...]
) -> None:
    with pytest.raises(base.CloudError, match="neither made nor changed"):
        getattr(base.connect(fleet), call)(*arguments)
