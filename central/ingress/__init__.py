"""The doors gateways come in by: the link over mutual TLS, and enrolment."""
