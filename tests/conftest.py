"""What all tests share: how Hypothesis chooses its examples.

A run of `make check` or `make test` tries the same examples each time, so that red means that something
changed. `make soak` lets it look for others, and many more, and prints how to repeat what it finds.
"""

import os

import hypothesis

hypothesis.settings.register_profile("repeatable", derandomize=True)
hypothesis.settings.register_profile("soak", derandomize=False, print_blob=True)
hypothesis.settings.load_profile(os.environ.get("EBBGATE_EXAMPLES", "repeatable"))
