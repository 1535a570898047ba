# What a state run costs that does nothing.
nothing:
  test.nop
