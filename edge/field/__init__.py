"""A technician's tools: look at a device, test it, find others, check a building out.

Nothing here speaks HTTP. A look at a device never disturbs its running connection, is bounded in
time, and leaves nothing open when it is cancelled.
"""
