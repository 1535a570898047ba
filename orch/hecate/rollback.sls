{#- Undo the open or the last deploy on every target, in reverse order. #}
rollback:
  salt.runner:
    - name: hecate.rollback
{%- if pillar.get('transaction') %}
    - transaction: {{ pillar.transaction }}
{%- endif %}
