# Records on name servers with dynamic update. Everything comes from pillar; see docs/pillar.md.
hecate rfc2136:
  hecate_rfc2136.managed
