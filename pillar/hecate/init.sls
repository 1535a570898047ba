include:
  - hecate.systems
  - hecate.routes
  - hecate.policies
  - hecate.applications
  - hecate.dns
  - hecate.workloads
