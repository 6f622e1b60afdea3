"""How long to wait before a request is tried again."""

import math
from datetime import UTC
from email.utils import parsedate_to_datetime
from random import Random


def delay(failed: int, base: float, limit: float, random: Random) -> float:
    """Seconds to wait after the `failed`th failure in a row, the first being 1: `base` doubled each time up to `limit`,
    of which a random part between half and all is waited, so that clients that failed together return apart."""
    full = min(base * 2.0 ** min(failed - 1, 64), limit)
    return random.uniform(full / 2, full)


def retry_after(header: str | None, now: float, limit: float) -> float | None:
    """Seconds that a Retry-After header (RFC 9110, section 10.2.3: seconds or a date) asks to wait, from 0 to `limit`;
    None where it says nothing that can be read. now: seconds since 1970."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            date = parsedate_to_datetime(header)
        except (ValueError, OverflowError):
            return None
        try:
            # RFC 9110 knows GMT alone; a date without a zone is read as that.
            seconds = (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp() - now
        except OverflowError:
            return None
    return None if math.isnan(seconds) else min(max(seconds, 0.0), limit)
