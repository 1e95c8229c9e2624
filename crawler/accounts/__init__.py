"""accounts.yaml: which accounts to crawl, and how. A superset of c7n-org's accounts file."""

from crawler.accounts.document import MAX_BYTES
from crawler.accounts.load import AccountsFile, load
from crawler.accounts.schema import json_schema
from crawler.accounts.selection import Selection, select
from crawler.accounts.source import open_accounts, read_accounts, selected

__all__ = [
    "MAX_BYTES",
    "AccountsFile",
    "Selection",
    "json_schema",
    "load",
    "open_accounts",
    "read_accounts",
    "select",
    "selected",
]
