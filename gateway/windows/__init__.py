"""Rate-limit windows under the `limits` library's strategies: in this process, and in Redis."""
