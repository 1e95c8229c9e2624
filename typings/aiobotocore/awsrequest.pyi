from collections.abc import Mapping
from typing import Protocol

class _Readable(Protocol):
    async def read(self) -> bytes: ...

class AioAWSResponse:
    def __init__(self, url: str, status_code: int, headers: Mapping[str, str], raw: _Readable) -> None: ...
