"""The central platform: six modules from the gateway's link to history, live values and management."""
