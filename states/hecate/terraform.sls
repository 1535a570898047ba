# Infrastructure. Everything comes from pillar; see docs/pillar.md.
hecate terraform:
  hecate_terraform.managed
