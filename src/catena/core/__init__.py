"""The words every stage shares: errors, config, messages, protocols, registry, ids, clock, units."""
