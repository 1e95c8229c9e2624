from collections.abc import Mapping
from typing import Any

from botocore.model import Shape

class ResponseParserError(Exception): ...

class ResponseParser:
    def parse(self, response: Mapping[str, object], shape: Shape | None) -> dict[str, Any]: ...

def create_parser(protocol: str) -> ResponseParser: ...
