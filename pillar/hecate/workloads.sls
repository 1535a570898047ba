# Nomad jobs.
hecate:
  workloads:
    heartbeat:
      driver: raw_exec
      config: {command: /bin/sleep, args: ["86400"]}
      cpu: 20
      memory: 16
