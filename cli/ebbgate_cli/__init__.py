"""ebbgate on the command line: what people ask of the bus, and what can be answered without it."""
