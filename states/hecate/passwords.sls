# Passwords of Caddy's basic_auth that hecate:rotation keeps in Vault, as hashes on this edge. Before hecate.caddy.
hecate passwords:
  hecate_caddy.passwords
