"""One file an API: typed errors, timeouts, and the retry rule in each client's docstring."""
