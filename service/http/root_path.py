"""Paths below a prefix that a proxy serves the service under, such as ``/svdraw``."""

from starlette.responses import RedirectResponse
from starlette.types import Scope

__all__ = ["enter_root_path", "own_path", "root_path"]


def enter_root_path(scope: Scope, root: str) -> RedirectResponse | None:
    """Makes the paths of requests alike, whether the proxy strips the prefix or passes it on: with the prefix.

    Args:
        scope: scope of a request; its path is changed.
        root: the prefix, without a slash at its end; empty if there is none.

    Returns:
        A redirect from the prefix itself to the page below it, whose links are relative; None for any other path.
    """
    path = scope["path"]
    scope["root_path"] = root
    if root and path == root:
        return RedirectResponse(f"{root}/", 308)
    if not path.startswith(f"{root}/"):
        scope["path"] = root + path
    return None


def root_path(scope: Scope) -> str:
    """The prefix of a request's path, also where a mounted folder has made its own path part of it."""
    root: str = scope.get("app_root_path", scope.get("root_path", ""))
    return root


def own_path(scope: Scope) -> str:
    """The path of a request without the prefix."""
    path: str = scope["path"]
    return path.removeprefix(root_path(scope))
