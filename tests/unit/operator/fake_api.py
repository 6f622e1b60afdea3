"""A stand-in for cluster.Connection as the commands use it: answers by path, and rights that are missing."""

import re
from collections.abc import Mapping
from typing import Any

from octavo_operator.cluster import Forbidden, Reply, Trouble

Object = dict[str, Any]


class FakeApi:
    """`objects`, `texts`, `replies`: by path. `forbidden`: patterns of paths that this user may not read."""

    def __init__(self, objects: Mapping[str, Object], *forbidden: str) -> None:
        self.objects = dict(objects)
        self.texts: dict[str, str] = {}
        self.replies: dict[str, Reply] = {}
        self.asked: list[tuple[str, Object | None, dict[str, str]]] = []
        self._forbidden = forbidden

    async def read(self, path: str, **query: str) -> Object | None:
        self._allow("get", path)
        return self.objects.get(path)

    async def metadata(self, path: str) -> Object | None:
        self._allow("get", path)
        return self.objects.get(path)

    async def text(self, path: str, **query: str) -> str | None:
        self._allow("get", path)
        return self.texts.get(f"{path}?previous={query.get('previous', 'false')}")

    async def ask(
        self, path: str, body: Object | None = None, headers: Mapping[str, str] | None = None, *, limit: float = 60
    ) -> Reply:
        self._allow("create" if body is not None else "get", path)
        self.asked.append((path, body, dict(headers or {})))
        if path not in self.replies:
            raise Trouble(f"no endpoints available for {path}")
        return self.replies[path]

    def _allow(self, verb: str, path: str) -> None:
        for pattern in self._forbidden:
            if re.search(pattern, path):
                resource = path.split("/namespaces/")[-1].split("/")[1:]
                resource = f"{resource[0]}/{resource[2]}" if len(resource) > 2 else resource[0]
                raise Forbidden(
                    f'{resource} "chat" is forbidden: User "eve" cannot {verb} resource "{resource}" in API group "" '
                    'in the namespace "default"'
                )
