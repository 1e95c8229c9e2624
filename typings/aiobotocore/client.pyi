from collections.abc import Callable

class _Events:
    def register_last(self, event_name: str, handler: Callable[..., object]) -> None: ...

class _Meta:
    events: _Events

class AioBaseClient:
    meta: _Meta
    async def close(self) -> None: ...
