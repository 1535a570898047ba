# One route a service: edit here, then `salt-run hecate.plan` and `salt-run state.orch hecate.deploy`.
hecate:
  routes:
    # authentik itself: the sign-in pages are reached through the proxy too.
    hera.estate.test:
      upstreams: ["192.0.2.10:9000"]
      without: [security-headers]     # it has its own
      dns: {A: "terraform:edge_address"}
      tags: [identity]

    # Nextcloud
    cloud.estate.test:
      upstreams: ["192.0.2.20:11000"]
      health_check: {path: /status.php, interval: 30s}
      max_body: 10GB
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
      public_paths: [/github-webhook/*]     # the forge calls it, and has no login
      dns: {A: "terraform:edge_address"}

    # MinIO: console and API
    s3.estate.test:
      upstreams: ["192.0.2.20:8123"]
      dns: {A: "terraform:edge_address"}
    s3api.estate.test:
      upstreams: ["192.0.2.20:9123"]
      without: [compression]     # objects are what they are
      dns: {A: "terraform:edge_address"}

    # Wazuh: speaks HTTPS with a certificate of its own making
    delphi.estate.test:
      upstreams: ["https://192.0.2.30"]
      tls_skip_verify: true
      dns: {A: "terraform:edge_address"}

    # Helen, the public website, on the apex of the domain
    estate.test:
      upstreams: ["192.0.2.20:8009"]
      middleware: [block-scanners]
      paths:
        /blog/*: {upstreams: ["192.0.2.20:8010"], strip: true}
        /git: {redirect: "https://observe.estate.test/"}
      dns: {A: "terraform:edge_address"}
