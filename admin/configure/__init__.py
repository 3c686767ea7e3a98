"""The desk: the only writer, one file a noun, every change with its audit row; no HTTP in it."""
