"""The local API: what a technician's browser, phone or program does with a running gateway.

`api_app` of `edge.api.app` makes the application; nothing of it is imported while the API is off.
"""
