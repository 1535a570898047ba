"""How each kind of secret gets a successor: one Rotor a file, and the shelf that they share."""
