"""No C face: the functions enter themselves into `functions.SCALARS`."""
