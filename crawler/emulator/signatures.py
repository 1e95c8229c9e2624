"""AWS Signature Version 4, checked: who signed a request, for which region and service, and whether it is whole.

https://docs.aws.amazon.com/IAM/latest/UserGuide/reference_sigv-create-signed-request.html
Written from that page rather than on botocore's signer, which signs for most clients that come here.
"""

from __future__ import annotations

import hmac
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import lru_cache
from hashlib import sha256
from urllib.parse import quote

from crawler.emulator.messages import Refusal, Request

#: How far the client's clock may be off, in seconds.
SKEW = 300

_AUTHORIZATION = re.compile(
    r"AWS4-HMAC-SHA256\s+Credential=(?P<key>[^/,\s]+)/(?P<date>\d{8})/(?P<region>[^/,\s]+)/(?P<service>[^/,\s]+)"
    r"/aws4_request,\s*SignedHeaders=(?P<signed>[^,\s]+),\s*Signature=(?P<signature>[0-9a-f]{64})"
)
_MISMATCH = (
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key "
    "and signing method. Consult the service documentation for details."
)


@dataclass(frozen=True, slots=True)
class Signature:
    """What the Authorization header says."""

    access_key: str
    date: str
    region: str
    service: str
    signed_headers: tuple[str, ...]
    digits: str

    @classmethod
    def of(cls, request: Request) -> Signature:
        """Read the header; raises `Refusal` if there is none or it is not of this kind."""
        header = request.header(b"authorization")
        if header is None:
            raise Refusal("MissingAuthenticationTokenException", "Missing Authentication Token")
        match = _AUTHORIZATION.fullmatch(header)
        if match is None:
            raise Refusal("IncompleteSignatureException", "Authorization header is not an AWS4-HMAC-SHA256 signature.")
        signed = tuple(match["signed"].split(";"))
        return cls(match["key"], match["date"], match["region"], match["service"], signed, match["signature"])

    def verify(self, request: Request, secret_key: str, service: str, now: float) -> None:
        """Refuse unless `secret_key` signed this very request for `service` at about `now` (seconds since 1970)."""
        if self.service != service:
            raise Refusal("InvalidSignatureException", f"Credential should be scoped to correct service: '{service}'.")
        timestamp = request.header(b"x-amz-date") or ""
        self._check_time(timestamp, now)
        # "The host header and any x-amz-* headers must be included."
        for name in request.headers:
            required = name == b"host" or name.startswith(b"x-amz-")
            if required and name.decode() not in self.signed_headers:
                raise Refusal(
                    "InvalidSignatureException", f"'{name.decode()}' must be a 'SignedHeader' in the AWS Credential."
                )
        scope = f"{self.date}/{self.region}/{service}/aws4_request"
        digest = sha256(self._canonical(request).encode()).hexdigest()
        to_sign = f"AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{digest}"
        key = _signing_key(secret_key, self.date, self.region, service)
        if not hmac.compare_digest(hmac.digest(key, to_sign.encode(), "sha256").hex(), self.digits):
            raise Refusal("InvalidSignatureException", _MISMATCH)

    def _check_time(self, timestamp: str, now: float) -> None:
        try:
            signed_at = datetime.strptime(timestamp, "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC).timestamp()
        except ValueError:
            raise Refusal("IncompleteSignatureException", "Date must be in ISO-8601 'basic format'.") from None
        if timestamp[:8] != self.date:
            text = "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP"
            raise Refusal("InvalidSignatureException", text)
        if signed_at < now - SKEW:
            text = f"Signature expired: {timestamp} is now earlier than {_stamp(now - SKEW)} ({_stamp(now)} - 5 min.)"
            raise Refusal("InvalidSignatureException", text)
        if signed_at > now + SKEW:
            latest = f"{_stamp(now + SKEW)} ({_stamp(now)} + 5 min.)"
            text = f"Signature not yet current: {timestamp} is still later than {latest}"
            raise Refusal("InvalidSignatureException", text)

    def _canonical(self, request: Request) -> str:
        values = [request.header(name.encode()) or "" for name in self.signed_headers]
        headers = [f"{name}:{' '.join(v.split())}" for name, v in zip(self.signed_headers, values, strict=True)]
        pairs = [pair.partition("=") for pair in request.query.split("&") if pair]
        query = "&".join(f"{name}={value}" for name, _, value in sorted(pairs))
        payload = sha256(request.body).hexdigest()
        claimed = request.header(b"x-amz-content-sha256") or payload
        if claimed not in (payload, "UNSIGNED-PAYLOAD"):
            raise Refusal("InvalidSignatureException", "The provided x-amz-content-sha256 does not match the body.")
        path = quote(request.path, safe="/~-._")
        return "\n".join([request.method.decode(), path, query, *headers, "", ";".join(self.signed_headers), claimed])


def _stamp(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y%m%dT%H%M%SZ")


@lru_cache(maxsize=4096)
def _signing_key(secret_key: str, date: str, region: str, service: str) -> bytes:
    key = f"AWS4{secret_key}".encode()
    for part in (date, region, service, "aws4_request"):
        key = hmac.digest(key, part.encode(), "sha256")
    return key
