"""The report of a search as one page of HTML that opens without a network."""
