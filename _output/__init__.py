"""Salt engines: thin adapters, a few lines a function."""
