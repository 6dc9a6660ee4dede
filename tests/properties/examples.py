"""How many examples a property tries: few in the quick run, fifty times as many in `make soak`."""

import os

SOAK = os.environ.get("EBBGATE_EXAMPLES") == "soak"


def count(quick: int) -> int:
    return quick * (50 if SOAK else 1)
