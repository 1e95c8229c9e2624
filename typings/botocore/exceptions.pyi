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
