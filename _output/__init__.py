"""Salt outputters: thin adapters, a few lines a function."""
