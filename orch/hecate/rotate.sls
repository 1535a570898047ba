{#- Secrets get their successors:

      salt-run state.orch hecate.rotate                                        # what is due, and what was begun
      salt-run state.orch hecate.rotate pillar='{"which": ["own-token"]}'      # these, due or not
      salt-run state.orch hecate.rotate pillar='{"which": ["own-token"], "immediate": true}'

    preflight -> each secret: on the target that reaches its system, its consumers told meanwhile -> verify, from
    outside. One that fails keeps neither the others nor what else works from being done; the command exits non-zero.
    Run it again after the grace (`salt-run hecate.rotation_status`), or have a schedule do it (docs/secrets.md). #}
{%- set rotations = salt['saltutil.runner']('hecate.rotations', kwarg={'which': pillar.get('which')}) %}
{%- set listed = rotations if rotations is not mapping else [] %}
{%- set named = pillar.get('which') %}

preflight:
  salt.runner:
    - name: hecate.preflight

{%- for rotation in listed %}

rotate {{ rotation.name }} on {{ rotation.minion }}:
  salt.runner:
    - name: hecate.rotate
    - which: {{ [rotation.name] | tojson }}
    - immediate: {{ pillar.get('immediate', False) | tojson }}
    - only_due: {{ (not named) | tojson }}
    - require:
      - salt: preflight
{%- endfor %}

verify:
  salt.runner:
    - name: hecate.verify
    - require:
      - salt: preflight
    - order: last
