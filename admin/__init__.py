"""The control plane: the desk (configure/), the management surfaces (api/), the command (cli/).

It sits above `gateway`, which never imports it. Nothing is imported here.
"""
