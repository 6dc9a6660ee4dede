"""deploy/images/Containerfile, built for real, and compared with what `make images` makes.

It is used as it stands, by buildah. What it takes from a registry, Debian's base image, is made here of
Debian's packages under that very name (`base`). What this machine needs to reach its package index is shown
to the build from outside, and in no image (`pip`). Then `judge` says what of an image isn't as `make images`
has it, and `start` whether its commands start, each as the image's own user on a read-only root.
"""
