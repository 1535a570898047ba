include:
  - hecate.systems
  - hecate.routes
  - hecate.policies
  - hecate.dns
  - hecate.workloads
