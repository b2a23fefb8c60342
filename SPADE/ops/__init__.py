"""Fast forms of what the networks compute, each with its plain form beside it or named: tests and the benchmark compare them."""
