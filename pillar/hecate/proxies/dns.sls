proxy:
  proxytype: hecate_hetzner_dns
