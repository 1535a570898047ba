# One route a service: edit here, then `salt-run hecate.plan` and `salt-run state.orch hecate.deploy`.
hecate:
  routes:
    # authentik itself: the sign-in pages are reached through the proxy too.
    hera.estate.test:
      upstreams: ["192.0.2.10:9000"]
      dns: {A: "terraform:edge_address"}
      tags: [identity]

    # Nextcloud
    cloud.estate.test:
      upstreams: ["192.0.2.20:11000"]
      headers:
        response: {Strict-Transport-Security: max-age=31536000}
      dns: {A: "terraform:edge_address"}

    # Grafana
    observe.estate.test:
      upstreams: ["192.0.2.20:8069"]
      auth_policy: observers
      dns: {A: "terraform:edge_address"}

    # Jenkins
    jenkins.estate.test:
      upstreams: ["192.0.2.20:8059"]
      auth_policy: builders
      dns: {A: "terraform:edge_address"}

    # MinIO: console and API
    s3.estate.test:
      upstreams: ["192.0.2.20:8123"]
      dns: {A: "terraform:edge_address"}
    s3api.estate.test:
      upstreams: ["192.0.2.20:9123"]
      dns: {A: "terraform:edge_address"}

    # Wazuh: speaks HTTPS with a certificate of its own making
    delphi.estate.test:
      upstreams: ["https://192.0.2.30"]
      tls_skip_verify: true
      dns: {A: "terraform:edge_address"}

    # Helen, the public website, on the apex of the domain
    estate.test:
      upstreams: ["192.0.2.20:8009"]
      dns: {A: "terraform:edge_address"}
