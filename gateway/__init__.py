"""The data plane, one file a step, in this order:

receive, authenticate, resolve, limit, inject, forward, stream, record.

Everything else in this folder is furniture the steps use. Nothing is imported here.
"""

__version__ = "0.1.0"
