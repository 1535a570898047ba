# Records. Everything comes from pillar; see docs/pillar.md.
hecate hetzner_dns:
  hecate_hetzner_dns.managed
