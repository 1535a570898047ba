"""Salt beacons: thin adapters, a few lines a function."""
