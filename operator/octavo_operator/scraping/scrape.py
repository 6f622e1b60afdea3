"""Asks pods for their metrics, bounded in time, in size and in how many are asked at once."""

import asyncio
import os
from collections.abc import Callable

from aiohttp import ClientError, ClientSession, ClientTimeout, TCPConnector

from octavo_operator.api import Key
from octavo_operator.api.targets import Target
from octavo_operator.scraping import exposition
from octavo_operator.scraping.readings import Readings, Source

_SECONDS = 5.0
_MAX_BYTES = 2 * 2**20
_AT_ONCE = 64
_LOOK = 1.0  # seconds from one look for pods that are due to the next

Silence = dict[Target, str]


class Unreadable(RuntimeError):
    """A pod's answer holds no metrics; says why, as what the pod does."""


async def keep(readings: Readings, changed: Callable[[str, str], None]) -> None:
    """Scrape what `readings` watches, for ever; nothing while it watches nothing. `changed` is called with each service
    (namespace, name) that other metrics are missing of than before, or for another reason."""
    told: dict[Key, Silence] = {}
    slots = asyncio.Semaphore(_AT_ONCE)
    async with asking() as session, asyncio.TaskGroup() as tasks:
        while True:
            await readings.wanted()
            for source in readings.due():
                tasks.create_task(_scrape(session, slots, readings, source))
            await asyncio.sleep(_LOOK)
            current = {key: readings.silent(key) for key in readings.services()}
            for key, silence in current.items():
                if told.get(key) != silence:
                    changed(*key)
            told = current


async def _scrape(session: ClientSession, slots: asyncio.Semaphore, readings: Readings, source: Source) -> None:
    async with slots:
        try:
            text = await fetch(session, str(source.url))
            readings.heard(source, exposition.read(text, source.targets))
        except Unreadable as error:
            source.trouble = str(error)
        except TimeoutError:
            source.trouble = f"did not answer on {source.url} within {_SECONDS:g} s"
        except (ClientError, OSError) as error:
            number = getattr(error, "errno", None)
            said = os.strerror(number).lower() if number else " ".join(str(error).split()) or type(error).__name__
            source.trouble = f"cannot be asked on {source.url}: {said}"
        except Exception as error:
            # A pod may answer anything; no answer may end the scraping of the others.
            source.trouble = f"answers on {source.url} with what are no metrics: {' '.join(str(error).split())[:100]}"


def asking() -> ClientSession:
    """What `fetch` asks with."""
    # As kubelet's probes: the certificate is made for the names that clients use, and pods are asked by address.
    connector = TCPConnector(ssl=False, limit=_AT_ONCE)
    plain = {"Accept": "text/plain", "Accept-Encoding": "identity"}
    return ClientSession(
        connector=connector, timeout=ClientTimeout(total=_SECONDS), headers=plain, auto_decompress=False
    )


async def fetch(session: ClientSession, url: str) -> str:
    """The text of a pod's metrics; Unreadable where the answer is another."""
    async with session.get(url, allow_redirects=False) as response:
        if response.status in (401, 403):
            raise Unreadable(f"asks for an API key on {url}: take --guard-metrics out of the spec")
        if response.status != 200:
            raise Unreadable(f"answers on {url} with HTTP status {response.status}")
        body = bytearray()
        async for chunk in response.content.iter_chunked(2**16):
            body += chunk
            if len(body) > _MAX_BYTES:
                raise Unreadable(f"answers on {url} with more than {_MAX_BYTES} bytes")
        return body.decode("utf-8", errors="replace")
