"""GET /docs: the API to read and to try out, from this server's own files alone."""

from importlib.resources import files

from fastapi import APIRouter, Response

# Swagger UI as the package fastapi-offline carries it; it draws with inline styles and images.
_ASSETS = files("fastapi_offline") / "static"
_MEDIA_TYPES = {"swagger-ui-bundle.js": "text/javascript", "swagger-ui.css": "text/css", "favicon.png": "image/png"}
_POLICY = (
    "default-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; object-src 'none'; base-uri 'none'; "
    "frame-ancestors 'none'"
)

# Addresses are relative, so that the page works behind a path of a proxy too.
_PAGE = """<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>Octavo API</title>
<link rel="stylesheet" href="docs/swagger-ui.css">
<link rel="icon" href="docs/favicon.png">
</head>
<body>
<div id="api"></div>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</body>
</html>
"""
_START = """SwaggerUIBundle({
  url: "openapi.json",
  dom_id: "#api",
  deepLinking: true,
  presets: [SwaggerUIBundle.presets.apis],
});
"""


def router() -> APIRouter:
    """The page's routes; no part of the published API."""
    routes = APIRouter(include_in_schema=False)

    @routes.get("/docs")
    async def page() -> Response:
        return Response(_PAGE, media_type="text/html", headers={"Content-Security-Policy": _POLICY})

    @routes.get("/docs/start.js")
    async def start() -> Response:
        return Response(_START, media_type="text/javascript")

    def serve(name: str, media_type: str) -> None:
        data = (_ASSETS / name).read_bytes()

        @routes.get(f"/docs/{name}")
        async def asset() -> Response:
            return Response(data, media_type=media_type, headers={"Cache-Control": "max-age=3600"})

    for name, media_type in _MEDIA_TYPES.items():
        serve(name, media_type)
    return routes
