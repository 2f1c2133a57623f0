"""No C face: the classes of `setoperators.pyx` are made from Python, and run through the ones of `runtime.pxd`."""
