"""Salt proxy modules: thin adapters, a few lines a function."""
