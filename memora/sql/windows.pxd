"""No C face: the classes of `windows.pyx` are made from Python, and run through the ones of `runtime.pxd`."""
