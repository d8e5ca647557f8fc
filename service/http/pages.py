"""The web page, the interactive documentation and their files. They load nothing from other hosts."""

from importlib.resources import files
from pathlib import Path

from fastapi import FastAPI
from fastapi.responses import FileResponse
from fastapi.staticfiles import StaticFiles

__all__ = ["install_pages"]

_STATIC = Path(__file__).parent.parent / "static"
_NO_CACHE = {"Cache-Control": "no-cache"}


def install_pages(app: FastAPI) -> None:
    """Adds the paths ``/``, ``/docs`` and ``/static``."""

    @app.get("/", include_in_schema=False)
    async def page() -> FileResponse:
        return FileResponse(_STATIC / "index.html", headers=_NO_CACHE)

    @app.get("/docs", include_in_schema=False)
    async def documentation() -> FileResponse:
        return FileResponse(_STATIC / "docs.html", headers=_NO_CACHE)

    swagger = StaticFiles(directory=str(files("fastapi_offline") / "static"))
    app.mount("/static/swagger", swagger, name="swagger")
    app.mount("/static", StaticFiles(directory=_STATIC), name="static")
