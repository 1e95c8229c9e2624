"""The service models that ship with botocore, and requests held against them.

The files are read without importing botocore: its import takes longer than the emulator's whole start, and its own
validation knows only types and minima (`aws.md` §1). Here unknown members, enumerations, maxima and patterns count too.
Unknown members are refused although AWS ignores some: a misspelt member is a bug wherever it goes.
"""

from __future__ import annotations

import gzip
import importlib.util
import re
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import Any, cast

import orjson

from crawler.emulator.messages import Refusal

Shape = Mapping[str, Any]

_TYPES: dict[str, tuple[type, ...]] = {
    "structure": (dict,),
    "list": (list,),
    "string": (str,),
    "integer": (int,),
    "long": (int,),
    "boolean": (bool,),
}

#: What a service calls a request that its model does not allow.
INVALID = {
    "ecr": "InvalidParameterException",
    "ecr-public": "InvalidParameterException",
    "organizations": "InvalidInputException",
    "account": "ValidationException",
    "sts": "ValidationError",
    "ec2": "InvalidParameterValue",
}


@cache
def load(service: str) -> Shape:
    """The newest `service-2.json` of a service, as botocore ships it."""
    spec = importlib.util.find_spec("botocore")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("botocore is not installed; it comes with aiobotocore")
    newest = max((Path(spec.origin).parent / "data" / service).iterdir(), key=lambda folder: folder.name)
    return cast("Shape", orjson.loads(gzip.decompress((newest / "service-2.json.gz").read_bytes())))


def validate(service: str, operation: str, params: object) -> None:
    """Refuse parameters that the model of the operation does not allow.

    Raises `Refusal`: SerializationException for a wrong type, else the service's own code for a bad parameter.
    """
    model = load(service)
    reference = model["operations"][operation].get("input")
    if reference is not None:
        _Check(service, model["shapes"]).value(params, reference["shape"], "")
    elif params:
        raise Refusal(INVALID[service], f"{operation} takes no parameters")


def from_query(service: str, operation: str, fields: dict[str, str]) -> dict[str, Any]:
    """The parameters of a request in the protocols `query` and `ec2`, as a JSON service would get them.

    Fields that the operation does not know are kept under their own names, for `validate` to find.
    """
    reference = load(service)["operations"][operation].get("input")
    left = {key: value for key, value in fields.items() if key not in ("Action", "Version")}
    if reference is None:
        return dict(left)
    params: dict[str, Any] = _Reader(service, left).structure(reference["shape"], "") or {}
    return params | left


class _Check:
    def __init__(self, service: str, shapes: Mapping[str, Shape]) -> None:
        self._service = service
        self._shapes = shapes

    def value(self, value: object, name: str, path: str) -> None:
        shape = self._shapes[name]
        kind: str = shape["type"]
        right = isinstance(value, _TYPES[kind]) and (kind == "boolean" or not isinstance(value, bool))
        if not right:
            raise Refusal("SerializationException", f"{path[:-1] or 'The request'}: expected {kind}, got {value!r}")
        check = cast("Callable[[Any, Shape, str], None] | None", getattr(self, f"_{kind}", None))
        if check is not None:
            check(value, shape, path)

    def _refuse(self, path: str, constraint: str) -> Refusal:
        text = f"Invalid parameter at '{path}' failed to satisfy constraint: '{constraint}'"
        return Refusal(INVALID[self._service], text)

    def _structure(self, value: dict[str, object], shape: Shape, path: str) -> None:
        for name in shape.get("required", ()):
            if value.get(name) is None:
                raise self._refuse(f"{path}{name}", "Member must not be null")
        for name, child in value.items():
            if name not in shape["members"]:
                raise self._refuse(f"{path}{name}", f"Member must be one of {', '.join(shape['members'])}")
            if child is not None:
                self.value(child, shape["members"][name]["shape"], f"{path}{name}.")

    def _list(self, value: list[object], shape: Shape, path: str) -> None:
        self._range(len(value), shape, path, "length ")
        for number, child in enumerate(value, 1):
            self.value(child, shape["member"]["shape"], f"{path}{number}.member.")

    def _string(self, value: str, shape: Shape, path: str) -> None:
        self._range(len(value), shape, path, "length ")
        if "enum" in shape and value not in shape["enum"]:
            raise self._refuse(path[:-1], f"Member must satisfy enum value set: [{', '.join(shape['enum'])}]")
        pattern = _pattern(shape["pattern"]) if "pattern" in shape else None
        if pattern is not None and not pattern.fullmatch(value):
            raise self._refuse(path[:-1], f"Member must satisfy regular expression pattern: {shape['pattern']}")

    def _integer(self, value: int, shape: Shape, path: str) -> None:
        self._range(value, shape, path, "value ")

    _long = _integer

    def _range(self, value: int, shape: Shape, path: str, what: str) -> None:
        if value < shape.get("min", value):
            raise self._refuse(path[:-1], f"Member must have {what}greater than or equal to {shape['min']}")
        if value > shape.get("max", value):
            raise self._refuse(path[:-1], f"Member must have {what}less than or equal to {shape['max']}")


@cache
def _pattern(source: str) -> re.Pattern[str] | None:
    r"""Patterns are Java's. The few that Python cannot read (`\p{L}`) are not checked."""
    try:
        return re.compile(source, re.ASCII)
    except re.error:
        return None


class _Reader:
    """Takes out of flat fields (`Tags.member.1.Key`) what a shape knows, and leaves the rest."""

    def __init__(self, service: str, fields: dict[str, str]) -> None:
        self._shapes: Mapping[str, Shape] = load(service)["shapes"]
        self._ec2 = service == "ec2"
        self._fields = fields

    def _read(self, name: str, key: str) -> object:
        kind: str = self._shapes[name]["type"]
        if kind == "structure":
            return self.structure(name, f"{key}.")
        if kind == "list":
            return self._list(name, key)
        text = self._fields.pop(key, None)
        if text is None:
            return None
        if kind in ("integer", "long"):
            return int(text) if re.fullmatch(r"-?\d+", text) else text
        if kind == "boolean":
            return {"true": True, "false": False}.get(text, text)
        return text

    def structure(self, name: str, prefix: str) -> dict[str, Any] | None:
        found = {
            member: self._read(reference["shape"], prefix + self._key(member, reference))
            for member, reference in self._shapes[name]["members"].items()
        }
        return {member: value for member, value in found.items() if value is not None} or None

    def _list(self, name: str, key: str) -> list[object] | None:
        between = "" if self._ec2 or self._shapes[name].get("flattened") else ".member"
        values: list[object] = []
        while (
            value := self._read(self._shapes[name]["member"]["shape"], f"{key}{between}.{len(values) + 1}")
        ) is not None:
            values.append(value)
        return values or None

    def _key(self, member: str, reference: Shape) -> str:
        name: str = reference.get("queryName") or reference.get("locationName") or member
        # https://smithy.io/2.0/aws/protocols/aws-ec2-query-protocol.html: the location name, its first letter upper.
        return name[0].upper() + name[1:] if self._ec2 and "queryName" not in reference else name
