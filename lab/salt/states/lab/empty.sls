{#- An orchestration with the steps that `pillar` names, none of which does anything: the price of Salt itself.
    steps: a minion's id for each, or "" for one that the master does. #}
{%- for minion in pillar.steps %}
step {{ loop.index }}:
{%- if minion %}
  salt.state:
    - tgt: {{ minion }}
    - sls: lab.nothing
{%- else %}
  salt.runner:
    - name: test.arg
{%- endif %}
{%- if not loop.first %}
    - require:
      - salt: step {{ loop.index0 }}
{%- endif %}
{% endfor %}
