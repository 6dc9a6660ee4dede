"""How many examples a property tries: few in `make check`, three times as many in `make test`, fifty times in
`make soak`.
"""

import os

FACTOR = {"thorough": 3, "soak": 50}.get(os.environ.get("EBBGATE_EXAMPLES", ""), 1)


def count(quick: int) -> int:
    return quick * FACTOR
