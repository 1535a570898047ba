"""Salt pillar modules: thin adapters, a few lines a function."""
