{#- A plain highstate of any target does its own part, and nothing on other minions. #}
{%- set targets = pillar.get('hecate', {}).get('targets', {}) %}
{%- set me = grains['id'] %}
{%- set parts = [] %}
{%- if me == targets.get('controller', 'hecate-controller') %}{% do parts.extend(['hecate.terraform', 'hecate.nomad']) %}{% endif %}
{%- if me == targets.get('authentik', 'hecate-authentik') %}{% do parts.append('hecate.authentik') %}{% endif %}
{%- if me == targets.get('dns', 'hecate-dns') %}{% do parts.append('hecate.hetzner_dns') %}{% if pillar.get('hecate', {}).get('rfc2136') %}{% do parts.append('hecate.rfc2136') %}{% endif %}{% endif %}
{%- if me in targets.get('caddy', pillar.get('hecate', {}).get('edges', {})) %}{% do parts.append('hecate.caddy') %}{% endif %}
base:
{%- if parts %}
  '{{ me }}': {{ parts | tojson }}
{%- else %} {}
{%- endif %}
