"""GET / and /ui/{file}: the page for people. It is static, and asks the API like any other client."""

from pathlib import Path

from fastapi import APIRouter, HTTPException
from fastapi.responses import FileResponse

_FOLDER = Path(__file__).with_name("static")
_HEADERS = {"Cache-Control": "no-cache"}  # after an upgrade no old file meets a new one


def router() -> APIRouter:
    """The page's routes; no part of the published API."""
    routes = APIRouter(include_in_schema=False)
    files = {path.name: path for path in _FOLDER.iterdir()}

    @routes.api_route("/", methods=["GET", "HEAD"])
    async def page() -> FileResponse:
        return FileResponse(files["index.html"], headers=_HEADERS)

    @routes.api_route("/ui/{name}", methods=["GET", "HEAD"])
    async def file(name: str) -> FileResponse:
        if name not in files:
            raise HTTPException(404)
        return FileResponse(files[name], headers=_HEADERS)

    return routes
