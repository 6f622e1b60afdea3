"""Keeps what the pods of autoscaled services say up to date, so many asked at once at most."""

import asyncio
import os
from collections.abc import Callable

from aiohttp import ClientError, ClientSession

from octavo_operator.api import Key
from octavo_operator.api.targets import Target
from octavo_operator.scraping import asking, exposition
from octavo_operator.scraping.readings import Readings, Source

_LOOK = 1.0  # seconds from one look for pods that are due to the next

Silence = dict[Target, str]


async def keep(readings: Readings, changed: Callable[[str, str], None]) -> None:
    """Scrape what `readings` watches, for ever; nothing while it watches nothing. `changed` is called with each service
    (namespace, name) that other metrics are missing of than before, or for another reason."""
    told: dict[Key, Silence] = {}
    slots = asyncio.Semaphore(asking.AT_ONCE)
    async with asking.session() as session, asyncio.TaskGroup() as tasks:
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
            text = await asking.fetch(session, str(source.url))
            readings.heard(source, exposition.read(text, source.targets))
        except asking.Unreadable as error:
            source.trouble = str(error)
        except TimeoutError:
            source.trouble = f"did not answer on {source.url} within {asking.SECONDS:g} s"
        except (ClientError, OSError) as error:
            number = getattr(error, "errno", None)
            said = os.strerror(number).lower() if number else " ".join(str(error).split()) or type(error).__name__
            source.trouble = f"cannot be asked on {source.url}: {said}"
        except Exception as error:
            # A pod may answer anything; no answer may end the scraping of the others.
            source.trouble = f"answers on {source.url} with what are no metrics: {' '.join(str(error).split())[:100]}"
