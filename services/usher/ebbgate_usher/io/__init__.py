"""One outside system per file: NATS, the Kubernetes API, a folder, the arithmetic of certificates."""
