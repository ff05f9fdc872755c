"""Which addresses are public, and which ones no viewer can have."""

from __future__ import annotations

import pytest

from server.media.webrtc.addresses import is_loopback, is_never_tried, is_public

METADATA = "169.254.169.254"


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("8.8.8.8", True),
        ("2606:4700::1111", True),
        (METADATA, False),
        ("fd00:ec2::254", False),
        ("::ffff:169.254.169.254", False),
        ("64:ff9b::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::1", False),
        ("64:ff9b::808:808", True),
        ("10.0.0.1", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("100.64.0.1", False),
        ("127.0.0.1", False),
        ("0.0.0.0", False),
        ("255.255.255.255", False),
        ("224.0.0.1", False),
        ("240.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1", False),
        ("fe80::1%eth0", False),
        ("fc00::1", False),
        ("ff02::1", False),
        ("stage.example", False),
    ],
)
def test_only_globally_routable_addresses_are_public(address: str, expected: bool) -> None:
    assert is_public(address) is expected


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        (METADATA, True),
        ("::ffff:169.254.169.254", True),
        ("64:ff9b::a9fe:a9fe", True),
        ("2002:a9fe:a9fe::1", True),
        ("100.100.100.200", True),
        ("fd00:ec2::254", True),
        ("168.63.129.16", True),
        ("192.0.0.192", True),
        ("0.0.0.0", True),
        ("::", True),
        ("224.0.0.1", True),
        ("255.255.255.255", True),
        ("ff02::1", True),
        ("fe80::1", True),
        ("fe80::1%eth0", True),
        ("stage.example", True),
        ("10.0.0.1", False),
        ("100.64.0.1", False),
        ("fd00::1", False),
        ("127.0.0.1", False),
        ("::1", False),
        ("8.8.8.8", False),
        ("2606:4700::1111", False),
    ],
)
def test_no_viewer_is_at_many_hosts_at_none_or_at_a_clouds_metadata(address: str, expected: bool) -> None:
    assert is_never_tried(address) is expected


@pytest.mark.parametrize(
    ("address", "expected"), [("127.0.0.1", True), ("::1", True), ("::ffff:127.0.0.1", True), ("10.0.0.1", False)]
)
def test_loopback_is_known_in_each_of_its_forms(address: str, expected: bool) -> None:
    assert is_loopback(address) is expected
