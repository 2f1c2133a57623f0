"""No C face: the classes of `program.pyx` are made from Python, and run through the ones of `runtime.pxd`."""
