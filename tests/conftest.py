"""What holds for every test: which examples are drawn, and which signals children start with."""

import os
import signal

try:
    from hypothesis import settings
except ModuleNotFoundError:  # a GPU machine brings little more than torch and pytest
    pass
else:
    # The same examples at each run; the long runs draw new ones.
    settings.register_profile("soak", deadline=None)
    settings.load_profile("soak" if os.environ.get("OCTAVO_SOAK") else "ci")

# A shell starts what runs in the background with SIGINT ignored, and children inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)
