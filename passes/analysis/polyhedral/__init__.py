"""The polyhedral view of nests: domains, accesses, dependences and schedule trees, in isl's terms and notation."""
