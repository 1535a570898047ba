{#- Probe the whole estate from outside; exits non-zero when a probe fails. #}
verify:
  salt.runner:
    - name: hecate.verify
