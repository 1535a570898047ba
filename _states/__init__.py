"""Salt state modules: thin adapters, a few lines a function."""
