# What logs its users in at authentik by itself; the edges do not ask for them. Secrets are references.
hecate:
  applications:
    nextcloud:
      auth_policy: employees
      name: Nextcloud
      launch_url: https://cloud.estate.test
      oauth2:
        client_secret: "vault:hecate/nextcloud#client_secret"
        redirect_uris: ["https://cloud.estate.test/apps/user_oidc/code"]
