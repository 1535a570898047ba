# Which minion sees what. Every target of Hecate sees the whole estate: it compiles its own part.
base:
  'hecate-*':
    - hecate
  'hecate-authentik':
    - hecate.proxies.authentik
  'hecate-dns':
    - hecate.proxies.dns
