"""The real kernel, step by step, beside the fake one: after each change both hold the same, and what a crash
leaves is brought to the end by whoever comes next.

That no step lets a packet out wrongly is shown on the fake kernel (tests/properties); here the fake is shown
to be right.
"""

from collections.abc import Iterator

import msgspec
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ebbgate_lab import topology
from ebbgate_programmer.core import changes, firewall, lowering, ordering
from ebbgate_programmer.core.kernelstate import KernelState
from ebbgate_programmer.io import kernel
from tests.kernel import rig as rigs
from tests.properties import examples, fake_kernel
from tests.properties.test_programmer_changes import links, plans

PORT = 19021
CHAINS = firewall.chains(PORT)


@pytest.fixture(scope="module")
def node(_machine: None) -> Iterator[kernel.Kernel]:
    """A node with three uplinks, in a namespace that this thread is in."""
    lab = topology.Topology(rigs.prefix("i"), hosts=topology.HOSTS[1:2], pods=())
    lab.make()
    for name, address in (("eth1", "192.0.2.1/24"), ("eth2", "198.51.100.1/24")):
        lab.run("node1", "ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}-end")
        lab.run("node1", "ip", "addr", "add", address, "dev", name)
        for end in (name, f"{name}-end"):
            lab.run("node1", "ip", "link", "set", end, "up")
    with lab.entered("node1"):
        made = kernel.Kernel(rigs.BPFFS / f"{rigs.prefix('i')}test", rigs.OBJECT)
        yield made
        made.clean()
        made.close()
    lab.remove()


def _read(node: kernel.Kernel, like: KernelState) -> KernelState:
    return node.read(like.sysctls)


def _carry_out(node: kernel.Kernel, todo: list[changes.Change], *, beside: bool, last: int) -> None:
    """The first `last` of them; `beside`: the fake kernel does the same, and is compared each time."""
    settings_ = [change.path for change in todo if isinstance(change, changes.SetSysctl)]
    fake = fake_kernel.FakeKernel(node.read(settings_)) if beside else None
    for change in todo[:last]:
        assert node.apply(change) == ()
        if fake is not None:
            fake.apply([change])
            held = node.read(fake.state.sysctls)
            assert _comparable(held) == _comparable(fake.state), type(change).__name__


def _comparable(state: KernelState) -> dict[str, object]:
    """A setting of a device that isn't there any more isn't there either."""
    fields = msgspec.structs.asdict(state)
    fields["sysctls"] = {path: value for path, value in state.sysctls.items() if value}
    if state.device is None:
        fields["sysctls"].pop("net/ipv4/conf/ebbgate0/rp_filter", None)
    return fields


@given(plans, plans, links, st.integers(0, 40))
@settings(
    max_examples=examples.count(12),
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
def test_the_real_kernel_goes_the_same_way_as_the_fake_one_and_a_crash_is_mended(
    node: kernel.Kernel, first: object, second: object, link: object, crash: int
) -> None:
    here = node.environment("node1", PORT)
    other = msgspec.structs.replace(here, ethernet={**here.ethernet, "eth1": link})
    before = lowering.lower(first, here).state  # type: ignore[arg-type]
    after = lowering.lower(second, other).state  # type: ignore[arg-type]
    _carry_out(node, ordering.diff(before, _read(node, before), CHAINS), beside=False, last=1000)
    assert ordering.diff(before, _read(node, before), CHAINS) == []
    todo = ordering.diff(after, _read(node, after), CHAINS)
    _carry_out(node, todo, beside=True, last=crash)
    rest = ordering.diff(after, _read(node, after), CHAINS)
    _carry_out(node, rest, beside=True, last=1000)
    assert ordering.diff(after, _read(node, after), CHAINS) == []
