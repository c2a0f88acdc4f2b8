"""One file = one verb; the only place that puts parts together."""
