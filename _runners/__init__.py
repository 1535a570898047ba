"""Salt runner modules: thin adapters, a few lines a function."""
