"""Lines that tell whether the static part of nftables is in place: of what is wanted, and of what nft lists.

Under lowering and reading, which must write them alike: they are compared as text.
"""


def of_chain(family: str, table: str, name: str, hook: str) -> str:
    return f"{family} {table} {name} {hook}"


def of_rule(chain: tuple[str, str, str], number: int, text: str) -> str:
    return f"{' '.join(chain)} {number:02} {text}"


def of_set(family: str, table: str, name: str, size: int) -> str:
    return f"{family} {table} set {name} {size}"
