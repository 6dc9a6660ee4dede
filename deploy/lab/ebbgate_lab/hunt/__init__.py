"""The leak hunt: does ever a packet leave with a source that neither the old nor the new state allows?

Pods send without pause in several ways (`traffic`, `packets`), while policies, gateways, nodes, pods,
addresses and processes change at random (`changes`, `hunter`), and others take away what Ebbgate put into a
kernel (`damage`). A capture outside (`capture`) notes the source of each packet and which pod it came from.
An oracle of its own (`world`), which shares no code with the resolver, says which sources each state allows,
and `judge` holds the two together: from the moment before a change is published until every node has said
that it is applied, the old and the new state are allowed, and otherwise only the one in force.
"""
