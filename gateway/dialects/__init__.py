"""One small pure file a wire family: where a request goes, how it is signed, how errors look."""
