"""IAM policies: the least that each identity of a crawl needs, and the forms in which people hand them to AWS."""

from crawler.policies.formats import FORMATS
from crawler.policies.needs import Access, Grant, grants

__all__ = ["FORMATS", "Access", "Grant", "grants"]
