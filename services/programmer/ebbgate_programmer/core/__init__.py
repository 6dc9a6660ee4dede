"""What one node's kernel is to hold, and how to get there. PURE.

`scopes` folds messages, `desired` reads the rows, `lowering` turns them into a `kernelstate.KernelState`,
`changes` orders the difference from what is there. `decisions` is the oracle beside BPF.
"""
