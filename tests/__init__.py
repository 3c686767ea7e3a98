"""The tests: flat, one file per module, real sockets, no mocks."""
