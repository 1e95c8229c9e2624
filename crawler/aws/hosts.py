"""Where signed requests may go: https anywhere but link-local addresses, plain http to this machine only."""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, IPv6Network
from urllib.parse import SplitResult, urlsplit

from crawler.errors import CrawlError
from crawler.wording import printable

#: A machine's own services on EC2, besides the link-local ones: https://docs.aws.amazon.com/vpc/latest/userguide/vpc-ip-addressing.html
_OF_EC2 = IPv6Network("fd00:ec2::/32")

#: Addresses of IPv6 that end in one of IPv4: compatible, mapped, translated, NAT64 (RFC 4291, 2765, 6052, 8215).
_ENDS_IN_IPV4 = [
    IPv6Network(network) for network in ("::/96", "::ffff:0:0/96", "::ffff:0:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48")
]

_BRACKETS = re.compile(r"(^|@)\[[^\[\]@]*\](:\d*)?$")
_NAME = re.compile(r"[a-z0-9._-]+")
#: What a resolver takes for an address, as `2852039166` and `0251.0376.0251.0376`.
_NUMERIC = re.compile(r"(^|\.)(\d+|0x[0-9a-f]*)\.*$")


def check_host(url: str, *, service: str | None) -> None:
    """Raise a `CrawlError` unless `url` is one that may see our signatures and session tokens.

    Link-local addresses are those of the machine's metadata service: what answers there is not AWS's API. The URL alone
    decides; to whom a name leads is left to its certificate. `service` is a service ID like `ecr`, for the name of the
    variable that the message points to.
    """
    parts = urlsplit("")
    try:
        parts = urlsplit(url)
        if f"//{parts.netloc}" not in url:  # it leaves out tabs and ends of lines, as others may not
            raise ValueError(url)  # noqa: TRY301  (told in one place)
        wrong = _wrong(parts, _address(parts))
    except ValueError:
        wrong = "is no URL with a host as AWS's clients write them"
    if not wrong:
        return
    shown = printable(f"{parts.scheme}://{parts.hostname or ''}")
    own = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}, " if service else ""
    raise CrawlError(
        "EndpointRefused",
        f"the endpoint {shown} {wrong}; look at {own}AWS_ENDPOINT_URL, or endpoint_url in the AWS config file",
    )


def _address(parts: SplitResult) -> IPv4Address | IPv6Address | None:
    """The address that the host is; None for a name. Raises ValueError for what is neither, or is one in disguise."""
    parts.port  # noqa: B018  (raises, too)
    host = parts.hostname or ""
    if "[" in parts.netloc:
        if not _BRACKETS.search(parts.netloc):
            raise ValueError(parts.netloc)
        return IPv6Address(host.partition("%")[0])
    if _NUMERIC.search(host):
        return IPv4Address(host)
    if host and not _NAME.fullmatch(host):
        raise ValueError(host)
    return None


def _wrong(parts: SplitResult, address: IPv4Address | IPv6Address | None) -> str:
    """What is wrong with a host; empty for nothing."""
    host = parts.hostname or ""
    if address and any(_is_link_local(each) for each in _meant(address)):
        return "is a link-local address"
    if host.partition(".")[0] == "instance-data":
        return "is the name of a link-local address"
    # Names below localhost, and "localhost.", are asked of DNS by some resolvers.
    if parts.scheme == "http" and host and not (address.is_loopback if address else host == "localhost"):
        return "is plain http to another machine: use https"
    if parts.scheme not in ("http", "https") or not host:
        return "is no https URL"
    if parts.username or parts.password:
        return "carries a user name: AWS requests are signed instead"
    return ""


def _is_link_local(address: IPv4Address | IPv6Address) -> bool:
    return address.is_link_local or address in _OF_EC2


def _meant(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The address, and those of IPv4 that it leads to."""
    yield address
    if isinstance(address, IPv4Address):
        return
    if any(address in network for network in _ENDS_IN_IPV4):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.sixtofour:
        yield address.sixtofour
    if address.teredo:
        yield from address.teredo
