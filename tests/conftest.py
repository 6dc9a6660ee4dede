"""What all tests share: how Hypothesis chooses its examples.

A run of `make check` tries the same examples each time, and `make test` the same three times as many, so that
red means that something changed. `make soak` lets it look for others, many more, and
prints how to repeat what it finds. None has a deadline: a machine that others use too is slow at times.
"""

import os

import hypothesis

hypothesis.settings.register_profile("repeatable", derandomize=True, deadline=None)
hypothesis.settings.register_profile("thorough", derandomize=True, deadline=None)
hypothesis.settings.register_profile("soak", derandomize=False, deadline=None, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("EBBGATE_EXAMPLES", "repeatable"))
