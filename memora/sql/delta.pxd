"""Nothing to cimport: `delta.pyx` registers its kernel with the engine, and the rest is for Python."""
