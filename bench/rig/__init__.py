"""The rig on which gateways are measured side by side: a fleet of units, a product, a sink."""
