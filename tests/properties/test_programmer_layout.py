"""What is packed for a BPF map is unpacked as it was."""

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ebbgate_programmer.core import addresses as numbers
from ebbgate_programmer.core import layout
from ebbgate_programmer.core.kernelstate import (
    Action,
    EndpointValue,
    PathKey,
    PathValue,
    RouteKey,
    RouteValue,
)
from ebbgate_programmer.io import maps

ids = st.integers(0, 2**64 - 1)
words = st.integers(0, 2**32 - 1)
sixes = st.integers(2**96, 2**128 - 1)
addresses = st.one_of(
    words.map(lambda number: str(ipaddress.IPv4Address(number))),
    sixes.map(lambda number: str(ipaddress.IPv6Address(number))),
)
cidrs = st.one_of(
    st.builds(
        lambda n, length: str(ipaddress.ip_network((n, length), strict=False)), words, st.integers(0, 32)
    ),
    st.builds(
        lambda n, length: str(ipaddress.ip_network((n, length), strict=False)), sixes, st.integers(0, 128)
    ),
)


@given(addresses)
def test_addresses_come_back(address: str) -> None:
    assert layout.unpack_address(layout.pack_address(address)) == address


@given(st.builds(EndpointValue, ids, words))
def test_endpoints_come_back(value: EndpointValue) -> None:
    assert layout.unpack_endpoint(layout.pack_endpoint(value)) == value


@given(cidrs)
def test_cidrs_come_back(cidr: str) -> None:
    assert layout.unpack_cidr(layout.pack_cidr(cidr)) == cidr


written = st.one_of(
    cidrs,
    addresses,
    st.builds(
        lambda parts, length: ".".join(map(str, parts)) + length,
        st.lists(st.sampled_from([0, 1, 7, 128, 255, 256, "01"]), min_size=3, max_size=5),
        st.sampled_from(["", "/", "/0", "/7", "/24", "/31", "/32", "/33", "/08", "/255.0.0.0", "/-1"]),
    ),
)


@given(written)
def test_what_is_read_quickly_is_what_the_library_reads(text: str) -> None:
    try:
        parsed = ipaddress.ip_network(text, strict=False)
    except ValueError:
        assert not numbers.is_ipv4_cidr(text)
        with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 network"):
            numbers.prefix(text)
        return
    assert numbers.is_ipv4_cidr(text) == (parsed.version == 4 and str(parsed) == text)
    assert numbers.cidr(*numbers.prefix(text)) == str(parsed)


@given(addresses)
def test_the_quick_bytes_of_an_address_are_the_others(address: str) -> None:
    assert maps.pack_address(address) == layout.pack_address(address)
    assert maps.unpack_address(layout.pack_address(address)) == address


@given(st.builds(RouteKey, ids, sixes, st.integers(0, 128)))
def test_route_keys_come_back(key: RouteKey) -> None:
    assert layout.unpack_route_key(layout.pack_route_key(key)) == key


@given(st.builds(RouteValue, st.sampled_from(Action), ids))
def test_routes_come_back(value: RouteValue) -> None:
    assert layout.unpack_route(layout.pack_route(value)) == value


@given(st.builds(PathKey, ids, words))
def test_path_keys_come_back(key: PathKey) -> None:
    assert layout.unpack_path_key(layout.pack_path_key(key)) == key


@given(st.builds(PathValue, addresses, words, st.booleans()))
def test_paths_come_back(value: PathValue) -> None:
    assert layout.unpack_path(layout.pack_path(value)) == value


def test_a_sets_id_is_matched_before_any_bit_of_the_address() -> None:
    key = layout.pack_route_key(RouteKey(0x0102030405060708, *numbers.prefix("10.0.0.0/8")))
    assert key[4:] == bytes(range(1, 9)) + bytes(10) + b"\xff\xff" + bytes([10, 0, 0, 0])
    assert int.from_bytes(key[:4], "little") in (168, 168 << 24)
