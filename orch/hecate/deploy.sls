{#- The whole estate as one transaction:

      salt-run state.orch hecate.deploy
      salt-run state.orch hecate.deploy pillar='{"allow": ["route:old.example.com"], "message": "why"}'
      salt-run state.orch hecate.deploy pillar='{"plan": "p3f9c2a7be1d04c5"}'      # that, or nothing (docs/plans.md)
      salt-run state.orch hecate.deploy pillar='{"routes": ["app.example.com"]}'

    plan -> preflight -> lock and begin -> terraform -> nomad -> authentik -> dns, without deletions -> caddy, edge by edge
    -> dns, deletions: a record goes after its route -> verify -> record. Whatever fails, `rollback` puts every target
    back, in reverse order, and the command exits non-zero. A target that has nothing to do has no step. No `failhard`: it
    would keep the rollback from running. #}
{%- set deploy = salt['saltutil.runner']('hecate.steps', kwarg={'asked': pillar}) %}
{%- set id = deploy.transaction %}
{%- set done = ['preflight', 'begin'] %}

preflight:
  salt.runner:
    - name: hecate.preflight
    - transaction: {{ id }}
    - problem: {{ deploy.problem | tojson }}
    - plan: {{ deploy.plan | tojson }}

begin:
  salt.runner:
    - name: hecate.begin
    - transaction: {{ id }}
    - after: {{ deploy.after | tojson }}
    - require:
      - salt: preflight

{%- if pillar.get('plan') %}

as planned:
  salt.runner:
    - name: hecate.check_plan
    - transaction: {{ id }}
    - require:
      - salt: begin
{%- do done.append('as planned') %}
{%- endif %}

{%- for target in deploy.targets %}

{{ target.name }}:
  salt.state:
    - tgt: {{ target.minion }}
    - sls: hecate.{{ target.system }}
    - pillar: {{ {'hecate_run': target.run} | tojson }}
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
    - transaction: {{ id }}
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
