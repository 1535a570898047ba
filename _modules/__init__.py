"""Salt execution modules: thin adapters, a few lines a function."""
