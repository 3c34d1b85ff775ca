"""Pipeline texts: grammar, options, diagnostics."""
