# Who may reach what. A route names one of these; a route without a policy is public.
hecate:
  auth_policies:
    observers:
      groups: [platform-team, observers]
      session_duration: 8h
    builders:
      groups: [platform-team]
      session_duration: 2h
