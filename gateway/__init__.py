"""The data plane. A request walks through the verbs of this folder, as receive.py calls them:

    authenticate -> resolve -> limit -> inject -> forward -> stream -> record

(refuse ends it early; enumerate and trace answer from here). Everything else is furniture;
process/ is who runs it all, client/ what faces the caller. Nothing is imported here.
"""

__version__ = "0.1.0"
