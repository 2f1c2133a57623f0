# The checker has no C interface.
