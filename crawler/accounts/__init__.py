"""accounts.yaml: which accounts to crawl, and how. A superset of c7n-org's accounts file."""

from crawler.accounts.load import AccountsFile, load
from crawler.accounts.schema import json_schema
from crawler.accounts.selection import Selection, select

__all__ = ["AccountsFile", "Selection", "json_schema", "load", "select"]
