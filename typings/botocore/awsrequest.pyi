from collections.abc import Mapping

class AWSPreparedRequest:
    method: str
    url: str
    headers: Mapping[str, str | bytes]
    body: bytes | str | None

class AWSRequest:
    def prepare(self) -> AWSPreparedRequest: ...

def create_request_object(request_dict: Mapping[str, object]) -> AWSRequest: ...
