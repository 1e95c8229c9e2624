from typing import Any

class BotoCoreError(Exception):
    kwargs: dict[str, object]

class CredentialRetrievalError(BotoCoreError): ...

class ClientError(Exception):
    response: dict[str, dict[str, Any]]
    operation_name: str

class SSOError(BotoCoreError): ...
class TokenRetrievalError(BotoCoreError): ...
class UnknownRegionError(BotoCoreError, ValueError): ...

class EndpointConnectionError(BotoCoreError):
    def __init__(self, *, endpoint_url: str, error: Exception) -> None: ...

class ReadTimeoutError(BotoCoreError):
    def __init__(self, *, endpoint_url: str, error: Exception) -> None: ...
