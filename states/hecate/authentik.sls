# Who may reach what. Everything comes from pillar; see docs/pillar.md.
hecate authentik:
  hecate_authentik.managed
