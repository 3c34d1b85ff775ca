"""How much a rewritten network is worth, judged before it is trained."""
