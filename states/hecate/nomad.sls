# Jobs. Everything comes from pillar; see docs/pillar.md.
hecate nomad:
  hecate_nomad.managed
