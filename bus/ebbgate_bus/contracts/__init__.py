"""What may be said on the bus: messages, subjects, streams, codec. PURE.

`facts` are what was observed, `rows` what is wanted, `reports` what became of it; `subjects` names each of
them,
`streams` says where they are kept, `codec` turns them into bytes and back, `digests` tells whether two sides
hold the same rows. Nothing here opens a socket or reads a clock.
"""
