"""What the programs that use Python clients have in common."""

import os
import time

URL = os.environ["CLIENT_URL"]
USER = os.environ["CLIENT_USER"]
PASSWORD = os.environ["CLIENT_PASSWORD"]
# The clients add `/go` themselves.
ROOT = URL[: -len("/go")]

PATIENCE = 60


def wait_for(what, look):
    """Looks until there is something, and returns that."""
    end = time.monotonic() + PATIENCE
    while True:
        found = look()
        if found:
            return found
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.2)


def equal(what, found, expected):
    assert found == expected, f"{what}: {found!r}, and {expected!r} was expected"
