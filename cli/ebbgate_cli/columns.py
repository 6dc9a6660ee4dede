"""Text in columns, as kubectl prints it: upper-case heads, three spaces between, nothing at the line's
end.
"""

from collections.abc import Sequence

from rich import text

from ebbgate_cli import output

GAP = "   "


def lay_out(header: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    widths = [max(len(line[column]) for line in (header, *lines)) for column in range(len(header))]
    return "\n".join(
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in (header, *lines)
    )


def show(header: Sequence[str], lines: Sequence[Sequence[str]]) -> None:
    """To standard output; the header is bold on a terminal."""
    head, _, rest = lay_out(header, lines).partition("\n")
    out = output.console()
    out.print(text.Text(head, style="bold"))
    out.print(text.Text(rest))
