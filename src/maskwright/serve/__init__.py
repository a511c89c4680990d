"""The HTTP service: the page, the interface `/v1`, and the annotation backend. Needs the extra `serve`."""
