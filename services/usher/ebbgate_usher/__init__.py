"""The usher: says who is who on the bus, and makes the keys and certificates that are needed for it."""
