# Where everything is, and which minion reaches it. Secrets are references, never values.
hecate:
  environment: production

  targets:
    controller: hecate-controller
    authentik: hecate-authentik
    dns: hecate-dns
    caddy: [hecate-edge-1, hecate-edge-2]

  edges:
    hecate-edge-1: {address: 192.0.2.1}
    hecate-edge-2: {address: 192.0.2.2}

  caddy:
    admin: "unix//run/caddy/admin.sock"
    issuer: internal        # acme, once the names are public
    middleware: [security-headers, compression]     # of every route that doesn't do `without`

  authentik:
    url: https://hera.estate.test
    token: "vault:hecate/authentik#token"
    outpost: "192.0.2.10:9000"

  hetzner_dns:
    token: "vault:hecate/hetzner#token"

  vault:
    url: https://vault.estate.test
    token: "file:/etc/hecate/vault-token"

  nomad:
    url: http://127.0.0.1:4646
    token: "vault:hecate/nomad#token"
    min_healthy: 1

  terraform:
    # The folder beside this file; in production, wherever the controller has its checkout.
    source: {{ salt['file.dirname'](tplpath) }}/terraform
    variables:
      environment: production
      edge_address: 203.0.113.10
