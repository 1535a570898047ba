{#- The whole estate as one transaction:

      salt-run state.orch hecate.deploy
      salt-run state.orch hecate.deploy pillar='{"allow": ["route:old.example.com"], "message": "why"}'

    preflight -> lock and begin -> terraform -> nomad -> authentik -> dns, without deletions -> caddy,
    edge by edge -> dns, deletions: a record goes after its route -> verify -> record. Whatever fails, `rollback` puts every target back, in reverse order, and the
    command exits non-zero. No `failhard`: it would keep the rollback from running. #}
{%- set deploy = salt['saltutil.runner']('hecate.steps', kwarg={'allow': pillar.get('allow', [])}) %}
{%- set id = deploy.transaction %}
{%- set done = ['preflight', 'begin'] %}

preflight:
  salt.runner:
    - name: hecate.preflight

begin:
  salt.runner:
    - name: hecate.begin
    - transaction: {{ id }}
    - require:
      - salt: preflight

{%- for target in deploy.targets %}

{{ target.name }}:
  salt.state:
    - tgt: {{ target.minion }}
    - sls: hecate.{{ target.system }}
    - pillar: {{ {'hecate_run': {'transaction': id, 'allow': deploy.allow, 'hold': target.hold}} | tojson }}
    - require:
      - salt: {{ done[-1] }}
{%- do done.append(target.name) %}
{%- if target.system == 'terraform' %}

outputs:
  salt.runner:
    - name: hecate.outputs
    - transaction: {{ id }}
    - require:
      - salt: terraform
{%- do done.append('outputs') %}
{%- endif %}
{%- endfor %}

verify:
  salt.runner:
    - name: hecate.verify
    - require:
      - salt: {{ done[-1] }}

record:
  salt.runner:
    - name: hecate.record
    - transaction: {{ id }}
    - require:
      - salt: verify

rollback:
  salt.runner:
    - name: hecate.rollback
    - transaction: {{ id }}
    - reason: a step failed
    - onfail:
{%- for name in done + ['verify', 'record'] %}
      - salt: {{ name }}
{%- endfor %}
