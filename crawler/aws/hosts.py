"""Where signed requests may go: https anywhere but link-local addresses, plain http to this machine only."""

from __future__ import annotations

from ipaddress import ip_address
from urllib.parse import urlsplit

from crawler.errors import CrawlError


def check_host(url: str, *, service: str | None) -> None:
    """Raise a `CrawlError` unless `url` is one that may see our signatures and session tokens.

    Link-local addresses are those of the machine's metadata service: what answers there is not AWS's API. `service` is
    a service ID like `ecr`, for the name of the variable that the message points to.
    """
    parts = urlsplit(url)
    host = parts.hostname or ""
    try:
        address = ip_address(host.split("%", 1)[0])
    except ValueError:
        address = None
    local = address.is_loopback if address else host in ("localhost", "") or host.endswith(".localhost")
    mapped = getattr(address, "ipv4_mapped", None)
    if address and (address.is_link_local or (mapped and mapped.is_link_local)):
        wrong = "is a link-local address"
    elif parts.scheme == "http" and not local:
        wrong = "is plain http to another machine: use https"
    elif parts.scheme not in ("http", "https") or not host:
        wrong = "is no https URL"
    elif parts.username or parts.password:
        wrong = "carries a user name: AWS requests are signed instead"
    else:
        return
    own = f"AWS_ENDPOINT_URL_{service.upper().replace('-', '_')}, " if service else ""
    raise CrawlError(
        "EndpointRefused",
        f"the endpoint {parts.scheme}://{host} {wrong}; "
        f"look at {own}AWS_ENDPOINT_URL, or endpoint_url in the AWS config file",
    )
