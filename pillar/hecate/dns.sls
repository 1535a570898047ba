# Zones that Hecate may write to, and records that belong to no route.
hecate:
  dns:
    zones:
      estate.test:
        policy: sync
        ttl: 300
        records:
          "@": {TXT: "v=spf1 -all"}
          www: {CNAME: estate.test}
