from collections.abc import Mapping
from typing import Any

class AWSPreparedRequest:
    method: str
    url: str
    headers: Mapping[str, str | bytes]
    body: bytes | str | None

class AWSRequest:
    def prepare(self) -> AWSPreparedRequest: ...

def create_request_object(request_dict: Mapping[str, object]) -> AWSRequest: ...
def prepare_request_dict(request_dict: dict[str, Any], endpoint_url: str) -> None: ...
