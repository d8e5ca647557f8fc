"""Conditional requests (RFC 9110, section 13)."""

import re

from fastapi import Request

__all__ = ["not_modified"]

_TAG = re.compile(r'(?:W/)?("[^"]*")')


def not_modified(request: Request, etag: str) -> bool:
    """Whether ``If-None-Match`` names the current version; tags are compared weakly, and ``*`` matches any version."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return given.strip() == "*" or etag in _TAG.findall(given)
