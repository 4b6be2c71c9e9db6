"""Recording and alerting rules over LogQL, as Loki's ruler has them: groups of Prometheus' form, evaluated in time.

Alerts go to Alertmanagers and into the store; recorded samples go out by remote write. Knows no HTTP routes.
"""
