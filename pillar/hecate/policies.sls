# Who may reach what. A route or an application names one of these; a route without a policy is public.
hecate:
  auth_policies:
    observers:
      groups: [platform-team, observers]
      session_duration: 8h
    builders:
      groups: [platform-team]
      require_mfa: true     # from whoever is logged in already too
      allowed_methods: [password, totp, webauthn]
      session_duration: 2h
    employees:
      attributes: {employment: [staff, contractor]}     # of the user, in authentik
