"""The programmer's hands: one outside system per file, no decisions.

`bpf` and `objects` (bpf(2) and libbpf), `network` (rtnetlink), `nft`, `conntrack`, `sysctls`, `hints` (what
the kernel tells unasked), put together by `kernel`, which reads a KernelState and carries out Changes.
"""
