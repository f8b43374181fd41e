"""The central platform: six modules from the gateway's link to history and management."""
