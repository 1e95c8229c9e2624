"""What goes in and out: a request as it came, the answer to it, and a refusal in AWS's terms."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from functools import cached_property
from http import HTTPStatus
from typing import Any
from xml.sax.saxutils import escape

import orjson

JSON = "application/x-amz-json-1.1"
XML = "text/xml"
#: The request's id is in the header; the one in the body of the query services is a copy that nothing depends on.
REQUEST_ID = "00000000-0000-4000-8000-000000000000"

#: What the query services call the errors that JSON services name otherwise: code and HTTP status.
#: https://docs.aws.amazon.com/STS/latest/APIReference/CommonErrors.html
_STS_CODES = {
    "AccessDeniedException": ("AccessDenied", 403),
    "ExpiredTokenException": ("ExpiredToken", 403),
    "InvalidAction": ("InvalidAction", 400),
    "InvalidSignatureException": ("SignatureDoesNotMatch", 403),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
    "ServerException": ("InternalFailure", 500),
    "ThrottlingException": ("Throttling", 400),
    "UnrecognizedClientException": ("InvalidClientTokenId", 403),
}
_EC2_CODES = {
    "AccessDeniedException": ("UnauthorizedOperation", 403),
    "ExpiredTokenException": ("RequestExpired", 400),
    "InvalidSignatureException": ("AuthFailure", 401),
    "MissingAuthenticationTokenException": ("MissingAuthenticationToken", 403),
    "ServerException": ("InternalError", 500),
    "ThrottlingException": ("RequestLimitExceeded", 503),
    "UnrecognizedClientException": ("AuthFailure", 401),
}
_ORGANIZATIONS_CODES = {
    "ServerException": ("ServiceException", 500),
    "ThrottlingException": ("TooManyRequestsException", 400),
}
_ACCOUNT_CODES = {
    "AccessDeniedException": ("AccessDeniedException", 403),
    "ServerException": ("InternalServerException", 500),
    "ThrottlingException": ("TooManyRequestsException", 429),
}
_UNAVAILABLE = b"<html><body><h1>503 Service Unavailable</h1></body></html>\n"
_CODES = {"sts": _STS_CODES, "ec2": _EC2_CODES, "organizations": _ORGANIZATIONS_CODES, "account": _ACCOUNT_CODES}


@dataclass
class Request:
    """One HTTP request: `url` as it was sent, `fields` with the header names as they were sent.

    Of a repeated header the last value counts. What is not asked for is not computed: most requests of a benchmark
    are answered from memory.
    """

    method: bytes
    url: bytes
    fields: dict[bytes, bytes]
    body: bytes

    @property
    def path(self) -> str:
        """The part before the question mark."""
        return self.url.decode("latin-1").partition("?")[0]

    @property
    def query(self) -> str:
        """The part after the question mark."""
        return self.url.decode("latin-1").partition("?")[2]

    @cached_property
    def headers(self) -> dict[bytes, bytes]:
        """Header fields by their names in lower case."""
        return {name.lower(): value for name, value in self.fields.items()}

    def header(self, name: bytes) -> str | None:
        """The value of a header, None if it is not there."""
        value = self.headers.get(name)
        return None if value is None else value.decode("latin-1")


@dataclass(slots=True)
class Answer:
    """One HTTP answer. `delivery` names the way it is put on the wire (see `deliveries.py`), `seconds` its pace."""

    body: bytes
    status: int = 200
    content_type: str = JSON
    headers: dict[str, str] = field(default_factory=dict[str, str])
    delivery: str = "whole"
    seconds: float | None = None
    error: str | None = None


class Refusal(Exception):
    """The request is answered with an error: AWS's code (in the JSON services' spelling), message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400, headers: dict[str, str] | None = None) -> None:
        super().__init__(code, message)
        self.code = code
        self.message = message
        self.status = status
        self.headers = headers or {}

    def answer(self, service: str) -> Answer:
        """The refusal in the protocol and with the codes of that service."""
        code, status = _CODES.get(service, {}).get(self.code, (self.code, self.status))
        if service == "sts":
            error = {
                "Type": "Sender" if status < HTTPStatus.INTERNAL_SERVER_ERROR else "Receiver",
                "Code": code,
                "Message": self.message,
            }
            body = document("ErrorResponse", {"Error": error, "RequestId": REQUEST_ID})
            return Answer(body, status, XML, self.headers, error=code)
        if service == "ec2":
            error = {"Code": code, "Message": self.message}
            body = document("Response", {"Errors": {"Error": error}, "RequestID": REQUEST_ID})
            return Answer(body, status, XML, self.headers, error=code)
        if status == HTTPStatus.SERVICE_UNAVAILABLE:
            # This one comes from a load balancer, which speaks no JSON.
            return Answer(_UNAVAILABLE, status, "text/html", self.headers, error=code)
        # The layer that authorizes writes "Message", the services write "message". Clients have to read both.
        key = "Message" if code == "AccessDeniedException" else "message"
        headers = {"x-amzn-ErrorType": code, **self.headers}
        return Answer(encode({"__type": code, key: self.message}), status, JSON, headers, error=code)


def encode(value: object) -> bytes:
    """JSON in UTF-8. Lone surrogates, which orjson refuses, are written as the escapes in which AWS could send them."""
    try:
        return orjson.dumps(value)
    except TypeError:
        return json.dumps(value, separators=(",", ":")).encode()


def document(root: str, value: dict[str, Any], *, namespace: str = "", item: str = "member") -> bytes:
    """XML of nested dictionaries and lists, the elements of a list under the name `item`."""
    attribute = f' xmlns="{namespace}"' if namespace else ""
    return f"<{root}{attribute}>{_elements(value, item)}</{root}>".encode()


def _elements(value: object, item: str) -> str:
    if isinstance(value, dict):
        pairs: dict[str, object] = value  # pyright: ignore[reportUnknownVariableType]  # isinstance tells no more
        return "".join(f"<{name}>{_elements(child, item)}</{name}>" for name, child in pairs.items())
    if isinstance(value, list):
        children: list[object] = value  # pyright: ignore[reportUnknownVariableType]  # isinstance tells no more
        return "".join(f"<{item}>{_elements(child, item)}</{item}>" for child in children)
    return escape(str(value))
