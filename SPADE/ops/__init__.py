"""Fast forms of what the networks compute. Each says what its plain form is, which tests and the benchmark compare."""
