# The proxy on this edge. Everything comes from pillar; see docs/pillar.md.
hecate caddy:
  hecate_caddy.managed
