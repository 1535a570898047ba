{#- What a beacon hecate_drift has noticed is done about as pillar's hecate:drift says. See docs/drift.md. #}
hecate drift:
  runner.hecate.drift:
    - args:
      - act: True
