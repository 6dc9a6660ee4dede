"""The rules: what a policy means, each asked about one thing at a time. Here a change of meaning begins.

Leg: the parts of Inventory → Rows. Policies are parsed and judged (policies, selectors, versions), pods are
matched (endpoints), CIDRs merged (routes), gateways and their slots found (gateways, slots, groups), paths
opened (gate); and what surrounds them (surroundings). None of it remembers anything.
"""
