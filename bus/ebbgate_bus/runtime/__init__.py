"""How things are said on the bus: connection, publishing, revisions, following. I/O, without decisions."""
