"""The lab: what a small cluster's network looks like, on one machine, from real namespaces.

Demo, kernel tests and lab tests stand on it. It plays the part of the machines and of the CNI, and knows
nothing of Ebbgate, so that it can't lend it a hand.
"""
