proxy:
  proxytype: hecate_authentik
