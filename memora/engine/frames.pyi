# Kernels only: nothing here is called from Python; frames.pxd is the interface.
