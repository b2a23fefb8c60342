"""One module per data set: where its files lie and what they mean."""
