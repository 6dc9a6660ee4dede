"""The programmer: one per node, it makes the node's kernel obey the plan and says what it holds.

It decides nothing about policies and needs no Kubernetes API; rows come from the bus, the truth of what is
installed from the kernel. Whatever ends it leaves the kernel as it is: traffic never depends on it.
"""
